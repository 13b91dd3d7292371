"""Export a run's network again, from its last checkpoint.

python scripts/export.py run=runs/breakout/2026-01-01_12-00-00-seed0 formats=[h5]
"""

import sys

from dqn.cli import run_command


def main() -> None:
    """Read the options and export."""
    from dqn.options import parse_options
    from dqn.playback import ExportOptions, export_run

    export_run(parse_options(ExportOptions, sys.argv[1:], __doc__ or ""))


if __name__ == "__main__":
    run_command(main)
