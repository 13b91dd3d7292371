"""What a run asks of its machine."""

from __future__ import annotations

import pytest
import torch

from dqn.machine import prepare


@pytest.mark.skipif(not torch.set_flush_denormal(True), reason="this processor cannot")
def test_the_tiniest_numbers_are_zero_in_every_thread():
    torch.set_flush_denormal(False)
    threads = torch.get_num_threads()
    prepare(2)
    try:
        assert not (torch.full((4_000_000,), 1e-30) * 1e-10).any()
        assert torch.tensor(1e-30) * 1e-7 > 0  # a normal number still
    finally:
        torch.set_num_threads(threads)
