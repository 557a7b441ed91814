"""Turns played in tokens: codec, player, engine."""
