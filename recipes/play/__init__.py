"""A person in the policy's place: the game, its commands, its screen."""
