"""Mistakes in SQL, made on purpose."""
