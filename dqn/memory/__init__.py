"""The replay memory: what is stored, and how it is sampled."""
