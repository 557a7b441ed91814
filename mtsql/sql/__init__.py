"""Running untrusted SQL, and reading it."""
