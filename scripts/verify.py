"""Run a run again, or its first steps, and say whether the same comes of it; if not, where it first differs.

python scripts/verify.py run=runs/cartpole/2026-01-01_12-00-00-seed0 steps=20000
"""

import sys

from dqn.cli import run_command


def main() -> int:
    """Read the options and verify; the exit status is 1 if something differs."""
    from dqn.options import parse_options
    from dqn.verification import VerifyOptions, verify_run

    return verify_run(parse_options(VerifyOptions, sys.argv[1:], __doc__ or ""))


if __name__ == "__main__":
    run_command(main)
