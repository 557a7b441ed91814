"""Chains of views (CoCTE) as values: composed into one WITH query, and read back from one."""
