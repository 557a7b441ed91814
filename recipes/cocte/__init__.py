"""Chains of views for gold queries, and a look into a chain."""
