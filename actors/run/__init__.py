"""The command's side of a run: stages one after another, each in a process of its own."""
