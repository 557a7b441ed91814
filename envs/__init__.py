"""Environments in message space: async, single-use, no tokens, no cluster."""

import logging

# A library is silent until its user says where its records go.
logging.getLogger(__name__).addHandler(logging.NullHandler())
