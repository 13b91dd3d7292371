"""Experiments with deep Q-learning, chosen by configuration."""
