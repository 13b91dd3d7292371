"""The current observations against stacks built by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dqn.envs.base import EnvironmentSpec
from dqn.envs.stack import ObservationStack

M, E = 2, 3


def make_spec(frame_shape: tuple[int, ...], dtype: str, stack: int) -> EnvironmentSpec:
    return EnvironmentSpec(
        frame_shape=frame_shape,
        frame_dtype=dtype,
        frame_stack=stack,
        num_states=None,
        num_actions=2,
        action_meanings=("a", "b"),
        frames_per_step=1,
        max_episode_steps=None,
    )


def by_hand(episode: list[Tensor], stack: int) -> Tensor:
    """The last frames of an episode, zeros before its start, the oldest first."""
    if stack == 1:
        return episode[-1]
    frames = [torch.zeros_like(episode[0])] * stack + episode
    return torch.cat(frames[-stack:])


@pytest.mark.parametrize("stack", [1, 2, 4])
@pytest.mark.parametrize(
    ("frame_shape", "dtype"), [((1, 4, 3), "uint8"), ((3, 2, 2), "uint8"), ((2,), "float32"), ((), "int64")]
)
def test_stacks_are_those_built_by_hand(frame_shape: tuple[int, ...], dtype: str, stack: int) -> None:
    if frame_shape == () and stack > 1:
        pytest.skip("discrete observations are not stacked")
    spec = make_spec(frame_shape, dtype, stack)
    generator = torch.Generator().manual_seed(0)

    def frames() -> Tensor:
        drawn = torch.randint(1, 256, (M, E, *frame_shape), generator=generator)
        return drawn.to(getattr(torch, dtype))

    stacked = ObservationStack(spec, M, E, torch.device("cpu"))
    assert stacked.observations.shape == (M, E, *spec.observation_shape)
    first = frames()
    stacked.start(first)
    episodes = [[[first[m, e]] for e in range(E)] for m in range(M)]
    resets = 0
    for _ in range(100):
        new, was_reset = frames(), torch.rand(M, E, generator=generator) < 0.2
        for m in range(M):
            for e in range(E):
                episodes[m][e] = [new[m, e]] if was_reset[m, e] else [*episodes[m][e], new[m, e]]
        before = stacked.observations.clone()
        held = stacked.observations
        stacked.push(new, was_reset)
        assert torch.equal(held, before)  # what was given out does not change
        assert stacked.observations.dtype == getattr(torch, dtype)
        expected = torch.stack([torch.stack([by_hand(episode, stack) for episode in member]) for member in episodes])
        assert torch.equal(stacked.observations, expected)
        resets += int(was_reset.sum())
    assert resets > 50


def test_a_second_start_forgets_what_was() -> None:
    stacked = ObservationStack(make_spec((1, 2, 2), "uint8", 4), M, E, torch.device("cpu"))
    for _ in range(6):
        stacked.push(torch.full((M, E, 1, 2, 2), 9, dtype=torch.uint8), torch.zeros(M, E, dtype=torch.bool))
    frames = torch.full((M, E, 1, 2, 2), 5, dtype=torch.uint8)
    stacked.start(frames)
    assert torch.equal(stacked.observations[:, :, 3:], frames)
    assert (stacked.observations[:, :, :3] == 0).all()


def test_a_frame_that_is_no_number_does_not_outlive_its_episode() -> None:
    """Observation spaces may be unbounded, and some environments use infinity."""
    stacked = ObservationStack(make_spec((2,), "float32", 3), 1, 1, torch.device("cpu"))
    stacked.start(torch.full((1, 1, 2), float("inf")))
    stacked.push(torch.ones(1, 1, 2), torch.ones(1, 1, dtype=torch.bool))
    assert stacked.observations.flatten().tolist() == [0.0, 0.0, 0.0, 0.0, 1.0, 1.0]
