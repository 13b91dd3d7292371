"""Replay memory that is sampled uniformly (Mnih et al. 2015, Methods, "Training algorithm")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dqn.envs.base import EnvironmentSpec
from dqn.memory.batch import Batch
from dqn.memory.frames import CompressedFrames, DenseFrames, Frames
from dqn.memory.stream import Experience, StreamStorage


class UniformMemory:
    """The last `capacity_steps` agent steps of each member, every transition among them equally likely.

    Which slots hold transitions differs between members (an autoreset is none), so each member keeps a queue of them:
    slots in order of arrival, with the counts of how many have ever joined and have ever left. Sampling picks places
    in the queue, with no trial and error.

    Args:
        spec: of the environment.
        num_envs: environments per member, E.
        capacity_steps: agent steps of one member, summed over its environments.
        discount: (M,).
        replacement: whether a batch may hold a transition twice.
        device: where everything is kept; the CPU where frames are compressed.
        compressed: whether frames are kept compressed, without loss.
        n_step: how many rewards a transition sums up, at most; it can be sampled when so many step calls were made.
    """

    def __init__(
        self,
        spec: EnvironmentSpec,
        num_envs: int,
        capacity_steps: int,
        discount: Tensor,
        replacement: bool,
        device: torch.device,
        compressed: bool = False,
        n_step: int = 1,
    ) -> None:
        members = discount.shape[0]
        self.device = device
        slots = math.ceil(capacity_steps / num_envs) + spec.frame_stack + n_step - 1
        frames: Frames
        if compressed:
            frames = CompressedFrames(spec, members, num_envs, slots)
        else:
            frames = DenseFrames(spec, members, num_envs, slots, device)
        self.is_traceable = frames.is_traceable
        self._storage = StreamStorage(spec, members, num_envs, slots, device, frames, n_step)
        self._discount = discount.to(device).unsqueeze(-1)
        self._replacement = replacement
        self._lead, self._n_step = spec.frame_stack - 1, n_step
        self._length = slots * num_envs
        # True of a memory of one step call, which is empty right after an autoreset: ask for the size, then.
        self.may_run_empty = slots - spec.frame_stack - n_step + 1 < 2
        # One place more than the queue needs: what is no transition is written there.
        self._queue = torch.zeros((members, self._length + 1), dtype=torch.int32, device=device)
        self._rows = torch.arange(members, device=device).unsqueeze(-1)  # (M, 1)
        self._joined = torch.zeros((members, 1), dtype=torch.int64, device=device)
        # How many had joined after the step call of each slot: tells how many leave when the slot is overwritten.
        self._joined_by_slot = torch.zeros((members, slots), dtype=torch.int64, device=device)
        self._env_offsets = torch.arange(num_envs, device=device).expand(members, num_envs) * slots

    def start(self, frames: Tensor) -> None:
        """Put the first frames (M, E, *frame)."""
        self._storage.start(frames)

    def add(self, experience: Experience) -> None:
        """Put what a step call brought; the transitions that are complete now can be sampled at once."""
        slot = self._storage.slot
        self._storage.add(experience)
        complete = (slot - (self._n_step - 1)) % self._storage.slots
        joins = self._storage.is_transition(complete)
        places = (self._joined + joins.cumsum(1) - 1) % self._length
        places = torch.where(joins, places, self._length)
        # Not scatter_: compiled, that copies the whole queue.
        self._queue[self._rows, places] = (self._env_offsets + complete).to(torch.int32)
        self._joined += joins.sum(1, keepdim=True)
        self._joined_by_slot.index_copy_(1, slot, self._joined)

    @property
    def is_empty(self) -> bool:
        """Whether no transition has ever been added."""
        return not bool(self._joined.any())

    @property
    def _left(self) -> Tensor:
        """How many transitions have left the queue, (M, 1): those whose frames are partly overwritten."""
        slot = self._storage.slot + self._lead + self._n_step - 1  # whose step call completed the last of them
        return self._joined_by_slot.index_select(1, slot % self._storage.slots)

    @property
    def size(self) -> Tensor:
        """How many transitions can be sampled, (M,) int64."""
        return (self._joined - self._left).squeeze(-1)

    def draw(self, uniforms: Tensor) -> Tensor:
        """Places (M, B) of transitions, chosen by uniforms (M, B) in [0, 1) float64; the memory must not be empty.

        Without replacement there must be B transitions or more.
        """
        left = self._left
        size = self._joined - left
        ranks = (uniforms * size).to(torch.int64) if self._replacement else _without_replacement(uniforms, size)
        return self._queue.gather(1, (left + ranks) % self._length).to(torch.int64)

    def read(self, places: Tensor) -> Batch:
        """The transitions at places (M, B)."""
        return self._storage.read(places // self._storage.slots, places % self._storage.slots, self._discount)

    def sample(self, uniforms: Tensor) -> Batch:
        """A batch: the transitions at the places that `draw` gives."""
        return self.read(self.draw(uniforms))

    def state_dict(self, since: Sequence[int] | None = None) -> dict[str, Any]:
        """Everything that sampling depends on.

        Args:
            since: leave out what each member's first so many step calls brought; by default nothing.
        """
        storage, members = self._storage, len(self._joined)
        return {
            "calls": storage.calls.expand(members),
            "oldest_call": storage.oldest_call,
            "joined": self._joined,
            "frames": storage.newest_frames(),
            "recordings": [list(storage.recordings(m, since[m] if since else 0)) for m in range(members)],
        }

    def calls_until_overwritten(self, call: int) -> int:
        """After how many more step calls a recording from step call number `call` on is no longer what it was."""
        return call + self._storage.slots - int(self._storage.calls)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; of a smaller memory too, if that was never full."""
        self._storage.forget()
        for m, recordings in enumerate(state["recordings"]):
            for recording in recordings:
                self._storage.replay(m, recording)
        self._storage.arrive(state["calls"], state["frames"])
        self._joined.copy_(state["joined"])
        self._queue_up()

    def _queue_up(self) -> None:
        """Put the queue in order: it follows from the stream and from how many transitions have ever joined."""
        slots, joins = self._storage.transitions()
        late = self._n_step - 1  # step calls until a transition is complete, and joins
        joins[..., max(len(slots) - late, 0) :] = False
        before = self._joined - joins.sum((1, 2)).unsqueeze(1)
        joined = before + joins.sum(1).cumsum(1)  # when the transitions of each call have, (M, K)
        self._joined_by_slot.zero_()
        self._joined_by_slot[:, slots] = before
        self._joined_by_slot[:, slots[late:]] = joined[:, : max(len(slots) - late, 0)]
        self._joined_by_slot.index_copy_(1, self._storage.slot, before)
        in_order = joins.transpose(1, 2).flatten(1)  # (M, K * E)
        entries = (self._env_offsets.unsqueeze(1) + slots.view(1, -1, 1)).flatten(1).to(torch.int32)
        places = (self._joined - in_order.sum(1, keepdim=True) + in_order.cumsum(1) - 1) % self._length
        for m, is_transition in enumerate(in_order):
            self._queue[m, places[m, is_transition]] = entries[m, is_transition]


def _without_replacement(uniforms: Tensor, size: Tensor) -> Tensor:
    """B different numbers below size (M, 1) for each member, every subset equally likely: Floyd's algorithm.

    Bentley and Floyd, "Programming pearls: a sample of brilliance", CACM 30(9), 1987.
    """
    batch_size = uniforms.shape[1]
    chosen = torch.full_like(uniforms, -1, dtype=torch.int64)
    for i in range(batch_size):
        last = size[:, 0] - batch_size + i
        pick = (uniforms[:, i] * (last + 1)).to(torch.int64)
        taken = (chosen == pick.unsqueeze(-1)).any(1)
        chosen[:, i] = torch.where(taken, last, pick)
    return chosen
