"""What a run asks of its machine."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from dqn.machine import prepare


def subnormal_numbers() -> int:
    """How many there are in a large product, which all threads compute, and in a small one."""
    return int((torch.full((4_000_000,), 1e-30) * 1e-10).count_nonzero() + (torch.tensor(1e-30) * 1e-10 != 0))


def test_the_tiniest_numbers_are_zero_in_every_thread():
    def count_after_preparing() -> int | None:
        can_flush = torch.set_flush_denormal(True)
        torch.set_flush_denormal(False)
        prepare(2)
        return subnormal_numbers() if can_flush else None

    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(1) as fresh:  # whose own threads are not yet started
            count = fresh.submit(count_after_preparing).result()
    finally:
        torch.set_num_threads(threads)
    if count is None:
        pytest.skip("this processor cannot")
    assert count == 0


EXPORT = """
import sys
from pathlib import Path
import torch
from dqn.envs.base import EnvironmentSpec
from dqn.export.formats import WRITERS, open_written
from dqn.machine import prepare
from dqn.networks.q_network import mlp

prepare(1)
network = mlp(EnvironmentSpec((4,), "float32", 1, None, 2, ("", ""), 1, None), [8], "relu")
observations = torch.zeros(2, 4)
for suffix, write in WRITERS.items():
    path = Path(sys.argv[1]) / f"policy{suffix}"
    write(network, observations, path)
    open_written(path, network)(observations.numpy())
    print(suffix, int((torch.full((4,), 1e-30) * 1e-10).count_nonzero()))
"""


def test_they_stay_zero_where_policies_are_exported(tmp_path):
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot")
    command = [sys.executable, "-c", EXPORT, str(tmp_path)]  # what a library does once, it does in a process of its own
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed.split() == [".safetensors", "0", ".onnx", "0", ".pt2", "0", ".h5", "0"]
