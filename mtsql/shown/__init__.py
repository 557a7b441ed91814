"""What a model is shown, harmless by construction."""
