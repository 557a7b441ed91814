"""All that knows verl, by type, key, path or name."""
