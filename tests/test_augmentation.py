"""Random shifts against padding and cropping one image at a time."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from dqn.augmentation import shifted
from dqn.errors import UserError
from dqn.experiment import build_trainer
from dqn.memory.batch import Batch

M, B, C, H, W, PIXELS = 2, 40, 3, 7, 5, 2


def test_each_observation_is_padded_and_cropped_at_a_place_of_its_own():
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(256, (M, B, C, H, W), dtype=torch.uint8, generator=generator) for _ in range(2)]
    zeros = torch.zeros(M, B)
    batch = Batch(images[0], zeros.long(), zeros, zeros, images[1])
    uniforms = torch.rand(M, 4 * B, dtype=torch.float64, generator=generator)
    found = shifted(batch, uniforms, PIXELS)
    assert all(torch.equal(getattr(found, name), getattr(batch, name)) for name in ("a_tm1", "r_t", "discount_t"))
    shifts = (uniforms.view(M, B, 4) * (2 * PIXELS + 1)).long() - PIXELS
    for k, (before, after) in enumerate(zip(images, (found.obs_tm1, found.obs_t), strict=True)):
        assert after.dtype == torch.uint8
        for m in range(M):
            for b in range(B):
                down, right = shifts[m, b, 2 * k : 2 * k + 2].tolist()
                padded = F.pad(before[m, b].float(), (PIXELS,) * 4, mode="replicate")
                top, left = PIXELS - down, PIXELS - right
                assert torch.equal(after[m, b].float(), padded[:, top : top + H, left : left + W])
    assert set(shifts.flatten().tolist()) == set(range(-PIXELS, PIXELS + 1))


def test_updates_learn_from_shifted_images(make_config):
    """With uniforms in the middle nothing is shifted; with others the update is another one."""
    words = ["experiment=pong", "network=nips_cnn", "trainer.batch_size=2", "memory.capacity_steps=100", "logger=none"]
    trainer = build_trainer([make_config(*words, "trainer.random_shift_pixels=4", "memory.warmup_steps=10")])
    learner = trainer.parts.learner
    assert learner.draws_to_update(2) == 8
    obs_tm1, obs_t = torch.randint(256, (2, 1, 2, 4, 84, 84), dtype=torch.uint8)
    batch = Batch(obs_tm1, torch.zeros(1, 2).long(), torch.ones(1, 2), torch.ones(1, 2), obs_t)
    losses = [
        float(learner.update(batch, torch.zeros(1), draws=torch.full((1, 8), uniform))[0].loss)
        for uniform in (0.5, 0.5, 0.1)
    ]
    trainer.close()
    assert losses[0] == losses[1] != losses[2]


def test_without_images_there_is_nothing_to_shift(make_config):
    with pytest.raises(UserError, match=r"trainer.random_shift_pixels=4: needs images, but observations are float32"):
        build_trainer([make_config("experiment=cartpole", "trainer.random_shift_pixels=4")])
