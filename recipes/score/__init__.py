"""Predictions in files, judged: reading them, the verdicts, tables and rows."""
