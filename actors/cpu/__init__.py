"""verl and vLLM on a machine without a GPU."""
