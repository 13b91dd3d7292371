"""Whoever listens to the training loop: progress bar, metrics file, Weights & Biases, TensorBoard."""
