"""Scripted play: honest trajectories with mistakes, checks and corrections."""
