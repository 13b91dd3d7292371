"""Speed and memory beside Stable-Baselines3 (pip install -e ".[bench]").

  python scripts/benchmark.py all
  python scripts/benchmark.py cartpole startup repeats=3
  python scripts/benchmark.py sweep members="[1, 16, 64]"

Workloads:
  cartpole, cartpole_every_step, breakout         a run beside one of theirs
  stack, stack_every_step                         64 members of one population beside two of their processes
  cartpole_torch                                  a run whose environments are tensors beside one of theirs
  growth                                          populations of several sizes
  memory, startup                                 bytes, and seconds to begin
  sweep                                           stack_every_step, stack, cartpole_torch, growth
  all                                             everything
"""

import sys

from dqn.benchmark.command import BenchmarkOptions, benchmark
from dqn.cli import run_command
from dqn.options import parse_options

if __name__ == "__main__":
    names = [word for word in sys.argv[1:] if "=" not in word and not word.startswith("-")]
    words = [word for word in sys.argv[1:] if word not in names]
    run_command(lambda: benchmark(names, parse_options(BenchmarkOptions, words, __doc__ or "")))
