"""What a finished trajectory is worth, by step, and what follows for its advantage."""
