"""Report on a sweep, also while it is going on: a table, sweep.csv, best.yaml and plots in its folder.

python scripts/sweep_report.py sweep=runs/cartpole/2026-01-01_12-00-00-sweep
"""

import sys

from dqn.cli import run_command


def main() -> None:
    """Read the options and report."""
    from pathlib import Path

    from dqn.options import parse_options
    from dqn.report.sweep import SweepReportOptions, report_sweep

    report_sweep(Path(parse_options(SweepReportOptions, sys.argv[1:], __doc__ or "").sweep))


if __name__ == "__main__":
    run_command(main)
