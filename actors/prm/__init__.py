"""Process reward models: made from a policy's base, asked for scores."""
