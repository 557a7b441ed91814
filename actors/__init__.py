"""Thin shells that put `mtsql` and `envs` on Ray, verl, vLLM and torch."""

import logging

# A library is silent until its user says where its records go.
logging.getLogger(__name__).addHandler(logging.NullHandler())
