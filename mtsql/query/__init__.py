"""SQL read once: its names, clauses and sameness, and edits of its text."""
