"""Chains of views (CoCTE) as values."""
