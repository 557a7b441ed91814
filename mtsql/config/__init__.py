"""A recipe, typed: one file for each section, each key documented next to its default."""
