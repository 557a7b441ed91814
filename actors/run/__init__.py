"""The command's side of a run: stages one after another, each in its own process."""
