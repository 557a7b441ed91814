"""One attempt at one turn: its record, its tokens, its file."""
