"""A recipe, typed: one file for each section, each key documented beside its default."""
