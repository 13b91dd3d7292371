"""Environments, as vectors: Atari, any Gymnasium id, the grid world."""
