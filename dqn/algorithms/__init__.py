"""Algorithms: one small dataclass each, which maps two Q-functions and a batch to losses."""
