"""Compare runs: the settings that differ, final scores (beside published ones, where known), a picture of the returns.

  python scripts/compare.py runs="[runs/cartpole/*, runs/cartpole_blog/*]"

Or compare the settings of presets, without any run:

  python scripts/compare.py experiments="[cartpole, breakout]"
"""

import sys

from dqn.cli import run_command
from dqn.options import parse_options
from dqn.report.compare import CompareOptions, compare

if __name__ == "__main__":
    run_command(lambda: compare(parse_options(CompareOptions, sys.argv[1:], __doc__ or "")))
