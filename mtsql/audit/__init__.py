"""Golds that do not say what their question says: found by rules, measured on planted errors."""
