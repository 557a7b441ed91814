"""A run's trajectories as conversations for trainers elsewhere."""
