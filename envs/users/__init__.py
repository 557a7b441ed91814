"""Users, who ask the questions of a dialogue."""
