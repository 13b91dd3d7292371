"""Play what a run has learned: statistics of its returns, a film, a window to watch.

python scripts/evaluate.py run=runs/cartpole/2026-01-01_12-00-00-seed0 episodes=100 video=true
python scripts/evaluate.py pretrained=breakout show=true
"""

import sys

from dqn.cli import run_command


def main() -> None:
    """Read the options and play."""
    from dqn.options import parse_options
    from dqn.playback import EvaluateOptions, evaluate_run

    evaluate_run(parse_options(EvaluateOptions, sys.argv[1:], __doc__ or ""))


if __name__ == "__main__":
    run_command(main)
