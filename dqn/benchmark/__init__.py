"""Speed and memory beside Stable-Baselines3, on the same work."""
