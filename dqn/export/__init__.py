"""Trained networks as files that others can run: written, read back and compared before they count."""

from dqn.export.formats import Policy, load_policy, read_policy
from dqn.export.policy import export_policy

__all__ = ["Policy", "export_policy", "load_policy", "read_policy"]
