"""Thin shells that put `mtsql` and `envs` on Ray, verl, vLLM and torch."""
