"""How each dialect words what the environment replies."""
