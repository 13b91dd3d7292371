"""The stream of experience as it came, in a ring of slots, one per environment and step call.

A slot holds the frame that was newest before its step call, the call's action, and what the call brought. The call's
own new frame goes into the next slot, so a frame is stored once, a transition is complete as soon as it is added, and
an episode's last frame is there for free: it stands in the slot whose step call was the reset. That slot is no
transition. Stacks and next observations are rebuilt on reading; no stack reaches across an episode's start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dqn.envs.base import EnvironmentSpec
from dqn.memory.batch import Batch
from dqn.memory.frames import Frames

_TERMINATED, _RESET = 1, 2


class Experience(NamedTuple):
    """What one step call of M x E environments brought."""

    actions: Tensor  # (M, E) int64
    rewards: Tensor  # (M, E) float32
    terminated: Tensor  # (M, E) bool: bootstrapping stops here
    was_reset: Tensor  # (M, E) bool: the call was an autoreset, no transition
    frames: Tensor  # (M, E, *frame): observed after the call


class StreamStorage:
    """A ring of `slots` slots for each of `num_envs` environments of each of `members` members.

    At any time the transitions of the last `slots - frame_stack` step calls can be read: the newest frame and the
    oldest one's stack take the rest. Of n steps they are complete n - 1 step calls later.

    Args:
        spec: of the environment.
        members: M.
        num_envs: E.
        slots: per environment; more than the spec's frame_stack.
        device: where everything but the frames is kept.
        frames: where the frames are kept, in rings of the same size.
        n_step: how many rewards a transition sums up, at most.
    """

    def __init__(
        self,
        spec: EnvironmentSpec,
        members: int,
        num_envs: int,
        slots: int,
        device: torch.device,
        frames: Frames,
        n_step: int,
    ) -> None:
        shape = (members, num_envs, slots)
        action_dtype = torch.uint8 if spec.num_actions <= 256 else torch.int32
        self.slots = slots
        self._stack = spec.frame_stack
        self._observation_shape = spec.observation_shape
        self._frames = frames
        self._actions = torch.zeros(shape, dtype=action_dtype, device=device)
        self._rewards = torch.zeros(shape, device=device)
        # Before the first slot there is a reset, so that the first stack does not reach behind it.
        self._flags = torch.full(shape, _RESET, dtype=torch.uint8, device=device)
        self._calls = torch.zeros(1, dtype=torch.int64, device=device)
        self._ring_offsets = torch.arange(members * num_envs, device=device).view(members, num_envs) * slots
        # From the oldest frame of a stack to the one after the last step.
        self._history = torch.arange(1 - self._stack, n_step + 1, device=device)
        self._in_stack = torch.arange(self._stack, device=device)

    @property
    def slot(self) -> Tensor:
        """The slot of the newest frame, (1,) int64; its step call is still to come."""
        return self._calls % self.slots

    def start(self, frames: Tensor) -> None:
        """Put the first frames (M, E, *frame) of the stream."""
        self._frames.put(self.slot, frames)

    def add(self, experience: Experience) -> None:
        """Put what a step call brought."""
        slot = self.slot
        flags = experience.terminated.to(torch.uint8) * _TERMINATED + experience.was_reset.to(torch.uint8) * _RESET
        self._actions.index_copy_(2, slot, experience.actions.to(self._actions.dtype).unsqueeze(2))
        self._rewards.index_copy_(2, slot, experience.rewards.unsqueeze(2))
        self._flags.index_copy_(2, slot, flags.unsqueeze(2))
        self._calls += 1
        self._frames.put(self.slot, experience.frames)

    def read(self, envs: Tensor, slots: Tensor, discount: Tensor) -> Batch:
        """Rebuild the transitions at (environment, slot), each (M, B) int64.

        Of n steps (Sutton and Barto 2018, section 7.1): the rewards are summed, discounted by (M, 1), up to the one
        that ended the episode or was terminal; from what was observed after the last of them learning bootstraps.
        """
        ring = torch.gather(self._ring_offsets, 1, envs)  # (M, B): where the environment's ring begins
        at = ring + slots
        window = ring.unsqueeze(-1) + (slots.unsqueeze(-1) + self._history) % self.slots  # (M, B, stack + n)
        r_t, terminated = self._rewards.view(-1)[at], (self._flags.view(-1)[at] & _TERMINATED) != 0
        discount_t, steps = discount.expand_as(r_t), torch.ones_like(at)
        goes_on = ~terminated
        for k in range(1, len(self._history) - self._stack):
            at_k = window[..., self._stack - 1 + k]
            flags = self._flags.view(-1)[at_k]
            goes_on = goes_on & ((flags & _RESET) == 0)
            r_t = r_t + torch.where(goes_on, discount_t * self._rewards.view(-1)[at_k], 0.0)
            discount_t = torch.where(goes_on, discount_t * discount, discount_t)
            steps = steps + goes_on
            is_terminal = goes_on & ((flags & _TERMINATED) != 0)
            terminated, goes_on = terminated | is_terminal, goes_on & ~is_terminal
        window = self._without_others(window)
        if window.shape[-1] == self._stack + 1:  # of one step: both stacks share all frames but two
            frames = self._frames.read(window)
            frames_tm1, frames_t = frames[:, :, :-1], frames[:, :, 1:]
        else:
            later = window.gather(-1, steps.unsqueeze(-1) + self._in_stack)
            frames = self._frames.read(torch.cat([window[..., : self._stack], later], -1))
            frames_tm1, frames_t = frames[:, :, : self._stack], frames[:, :, self._stack :]
        return Batch(
            obs_tm1=self._stacked(frames_tm1),
            a_tm1=self._actions.view(-1)[at].to(torch.int64),
            r_t=r_t,
            discount_t=discount_t * ~terminated,
            obs_t=self._stacked(frames_t),
        )

    def observed(self, envs: Tensor, slots: Tensor) -> Tensor:
        """What was seen before the step calls at (environment, slot), each (M, B) int64 -> (M, B, *observation)."""
        ring = torch.gather(self._ring_offsets, 1, envs).unsqueeze(-1)
        window = ring + (slots.unsqueeze(-1) + self._history[: self._stack]) % self.slots
        return self._stacked(self._frames.read(self._without_others(window)))

    def taken(self, envs: Tensor, slots: Tensor) -> Tensor:
        """The actions at (environment, slot), each (M, B) int64."""
        return self._actions.view(-1)[torch.gather(self._ring_offsets, 1, envs) + slots].to(torch.int64)

    def brought(self, slot: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rewards, whether terminated, and whether it was an autoreset, of a slot's (1,) step call: (M, E) each."""
        rewards = self._rewards.index_select(2, slot).squeeze(2)
        flags = self._flags.index_select(2, slot).squeeze(2)
        return rewards, (flags & _TERMINATED) != 0, (flags & _RESET) != 0

    def _without_others(self, window: Tensor) -> Tensor:
        """Places of frames (M, B, stack or more), those that a stack shows of earlier episodes replaced by the blank.

        A frame is in the stack if no episode started after it: no reset in any slot from it up to the last but one.
        The slots from the stack's oldest to the one before the transition's own decide.
        """
        if self._stack == 1:
            return window
        old, new = window[..., : self._stack - 1], window[..., self._stack - 1 :]
        resets = (self._flags.view(-1)[old] & _RESET) != 0
        started_after = resets.flip(-1).cumsum(-1).flip(-1) > 0
        return torch.cat([old.masked_fill(started_after, self._frames.blank), new], -1)

    def _stacked(self, frames: Tensor) -> Tensor:
        """(M, B, stack, *frame) -> (M, B, *observation)."""
        return frames.reshape(*frames.shape[:2], *self._observation_shape)

    @property
    def calls(self) -> Tensor:
        """How many step calls were added, (1,) int64."""
        return self._calls

    @property
    def oldest_call(self) -> int:
        """The oldest step call whose frames are still there: the newest frame has taken an older one's place."""
        return max(int(self._calls) + 1 - self.slots, 0)

    def newest_frames(self) -> Tensor:
        """The frames whose step call is still to come, (M, E, *frame)."""
        return self._frames.read((self._ring_offsets + self.slot).unsqueeze(-1)).squeeze(2)

    def recordings(self, member: int, since: int) -> Iterator[dict[str, Any]]:
        """What a member's step calls brought, from call number `since` on as far as it is still there.

        Each recording is of neighbouring slots, from call number `first` on: frames as `Frames.recorded` gives them,
        actions, rewards and flags, (E, K) of K calls. Its tensors share the ring's memory, if on its device.
        """
        calls = int(self._calls)
        first = max(since, self.oldest_call)
        while first < calls:
            begin = first % self.slots
            slots = slice(begin, min(begin + calls - first, self.slots))
            yield {
                "first": first,
                **self._frames.recorded(member, slots),
                **{name: ring[member, :, slots] for name, ring in self._rings().items()},
            }
            first += slots.stop - slots.start

    def forget(self) -> None:
        """Before recordings are replayed: nothing came yet."""
        self._flags.fill_(_RESET)

    def replay(self, member: int, recording: Mapping[str, Any]) -> None:
        """Take over a recording, of a smaller ring too."""
        numbers = recording["first"] + torch.arange(recording["flags"].shape[1], device=self._calls.device)
        slots = numbers % self.slots
        for name, ring in self._rings().items():
            ring[member].index_copy_(1, slots, recording[name].to(ring.device))
        self._frames.replay(member, slots, recording)

    def arrive(self, calls: Tensor, frames: Tensor) -> None:
        """After the recordings: so many step calls were made, (M,) int64, and these frames (M, E, *frame) came last."""
        self._calls.copy_(calls[:1])
        self._frames.put(self.slot, frames.to(self._calls.device))

    def is_transition(self, slot: Tensor) -> Tensor:
        """Whether the step call of a slot (1,) was one rather than an autoreset, (M, E) bool."""
        return (self._flags.index_select(2, slot).squeeze(2) & _RESET) == 0

    def transitions(self) -> tuple[Tensor, Tensor]:
        """The last `slots` - 1 step calls, as far as they were made: their slots, and which were transitions.

        Returns:
            Slots (K,) int64, oldest first, and (M, E, K) bool.
        """
        calls = int(self._calls)
        slots = torch.arange(self.oldest_call, calls, device=self._calls.device) % self.slots
        return slots, (self._flags[:, :, slots] & _RESET) == 0

    def _rings(self) -> dict[str, Tensor]:
        return {"actions": self._actions, "rewards": self._rewards, "flags": self._flags}
