"""The folder of a run: its files, its stages, its figures."""
