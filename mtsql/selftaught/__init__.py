"""The self-taught warm start: what a policy's own right trajectories teach it, round by round."""
