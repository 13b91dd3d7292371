"""The residual torso against its layers, one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dqn.envs.base import EnvironmentSpec
from dqn.networks.impala import ImpalaSection
from dqn.networks.q_network import impala_cnn


@pytest.mark.parametrize(("height", "width"), [(6, 6), (7, 5), (4, 9)])
def test_a_section(height: int, width: int) -> None:
    section = ImpalaSection(2, 3, height, width)
    images = torch.randn(4, 2, height, width, generator=torch.Generator().manual_seed(0))
    convolved = section.convolution(images).detach().numpy()
    rows, columns = -(-height // 2), -(-width // 2)
    pooled = np.zeros((4, 3, rows, columns), dtype=np.float32)
    before = [max((out - 1) * 2 + 3 - size, 0) // 2 for out, size in ((rows, height), (columns, width))]
    for i in range(rows):
        for j in range(columns):
            top, left = 2 * i - before[0], 2 * j - before[1]
            window = convolved[:, :, max(top, 0) : top + 3, max(left, 0) : left + 3]
            pooled[:, :, i, j] = window.max((2, 3))
    expected = torch.from_numpy(pooled)
    for block in section.residuals:
        expected = expected + block.second(F.relu(block.first(F.relu(expected))))
    torch.testing.assert_close(section(images), expected)


def test_a_normalized_section() -> None:
    """Each place has over its channels a mean of 0 and a variance of 1, before each ReLU."""

    def normalized(images: torch.Tensor) -> torch.Tensor:
        mean, variance = images.mean(1, keepdim=True), images.var(1, correction=0, keepdim=True)
        return (images - mean) / (variance + 1e-5).sqrt()

    section = ImpalaSection(2, 3, 6, 6, layer_norm=True)
    images = torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    expected = section.pooling(section.convolution(images))
    for block in section.residuals:
        inner = block.first(F.relu(normalized(expected)))
        expected = expected + block.second(F.relu(normalized(inner)))
    torch.testing.assert_close(section(images), expected)


def test_layer_norm_is_before_every_activation() -> None:
    spec = EnvironmentSpec((1, 84, 84), "uint8", 4, None, 6, ("",) * 6, 4, None)
    network = impala_cnn(spec, 1, 256, layer_norm=True)
    sizes = [layer.normalized_shape[0] for layer in network.modules() if isinstance(layer, torch.nn.LayerNorm)]
    assert sizes == [16] * 4 + [32] * 9 + [256]
    assert network(torch.zeros((2, 4, 84, 84), dtype=torch.uint8)).shape == (2, 6)


def test_the_network_has_the_papers_size() -> None:
    """84 pixels become 42, 21 and 11; of each section five convolutions."""
    spec = EnvironmentSpec((1, 84, 84), "uint8", 4, None, 6, ("",) * 6, 4, None)
    network = impala_cnn(spec, 1, 256)
    assert [layer.in_features for layer in network.modules() if isinstance(layer, torch.nn.Linear)] == [
        32 * 11 * 11,
        256,
    ]
    channels = [layer.out_channels for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert channels == [16] * 5 + [32] * 10
    wide = impala_cnn(spec, 4, 512)
    assert [layer.out_channels for layer in wide.modules() if isinstance(layer, torch.nn.Conv2d)] == [64] * 5 + [
        128
    ] * 10
