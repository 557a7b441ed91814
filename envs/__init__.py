"""Environments in message space: async, single-use, no tokens, no cluster."""
