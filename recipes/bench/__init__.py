"""Benchmarks behind `mtsql bench`: each prints a table, or JSON for programs."""
