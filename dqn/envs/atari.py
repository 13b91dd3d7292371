"""Atari games, through ale-py's vector environment.

What ale-py 0.12 does, seen in experiments and kept by tests:

- An episode starts with a number of no-ops drawn uniformly from 0 to noop_max - 1; FIRE, where it is pressed,
  comes first and takes the place of one of them.
- The frame cap counts from there, may fall within an action's frames, and truncates.
- The step call after either resets: it ignores the action and has reward 0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from ale_py import AtariVectorEnv, roms
from gymnasium.vector import AutoresetMode

from dqn.envs.base import Array, EnvironmentSpec, StepResult
from dqn.envs.selection import Selection
from dqn.errors import UserError, nearest

# ale-py has their ROMs but no way for one player to play them: loading them ends the process.
_FOR_TWO_PLAYERS = frozenset({"combat", "joust", "maze_craze", "warlords"})
_SCREEN_HEIGHT, _SCREEN_WIDTH = 210, 160  # pixels
_SEEDS = 2**31  # ale-py takes 32-bit integers, of which the negative ones mean no seed


_FRAMES_PER_SECOND = 60.0  # of the console


class AtariEnvironment:
    """N games stepped together, preprocessed as for DQN; implements `dqn.envs.base.ReseedableEnvironment`.

    Frames are grey, (1, frame_height, frame_width) bytes, one per step; observations stack the last
    `frame_stack` of them. Where a life is lost learning may see a terminal, but the game goes on; games and
    their raw rewards are always whole.

    Args:
        game: the name of its ROM, such as "space_invaders".
        num_envs: N.
        action_repeat: frames per step.
        repeat_action_probability: that a frame repeats the last frame's action instead ("sticky actions").
        noop_max: up to noop_max - 1 no-ops at an episode's start, each of one frame.
        fire_on_reset: press FIRE at an episode's start, where the game has that action.
        full_action_set: all 18 actions instead of those that the game uses.
        terminal_on_life_loss: `terminated` is true at a lost life too; the last one's is the game's own end.
        clip_rewards: `rewards` are clipped to [-1, 1].
        frame_height: in pixels.
        frame_width: in pixels.
        frame_stack: frames in one observation.
        max_pool: each pixel is the larger of the step's last two frames.
        max_frames_per_episode: truncates; counted in emulator frames after the start's no-ops.
        num_threads: that step the games; 0 leaves it to ale-py.
        render: whether game 0 is to be drawn: a twin then plays the same game in colour, which takes time.

    Raises:
        UserError: there is no such game.
    """

    is_deterministic = True  # sticky actions are drawn from the seed, too
    calls_per_seed = 10_000  # a seeded reset loads the game anew, which takes 0.1 s

    def __init__(
        self,
        *,
        game: str,
        num_envs: int,
        action_repeat: int,
        repeat_action_probability: float,
        noop_max: int,
        fire_on_reset: bool,
        full_action_set: bool,
        terminal_on_life_loss: bool,
        clip_rewards: bool,
        frame_height: int,
        frame_width: int,
        frame_stack: int,
        max_pool: bool,
        max_frames_per_episode: int,
        num_threads: int,
        render: bool = False,
    ) -> None:
        _check_game(game)
        self.num_envs = num_envs
        self._terminal_on_life_loss = terminal_on_life_loss
        self._clip_rewards = clip_rewards
        emulation: dict[str, Any] = {
            "game": game,
            "stack_num": 1,
            "frameskip": action_repeat,
            "repeat_action_probability": repeat_action_probability,
            "noop_max": noop_max,
            "use_fire_reset": fire_on_reset,
            "full_action_space": full_action_set,
            "episodic_life": False,
            "reward_clipping": False,
            "max_num_frames_per_episode": max_frames_per_episode,
            "autoreset_mode": AutoresetMode.NEXT_STEP,
        }
        self._games = AtariVectorEnv(
            num_envs=num_envs,
            num_threads=num_threads,
            img_height=frame_height,
            img_width=frame_width,
            maxpool=max_pool,
            **emulation,
        )
        self._twin: AtariVectorEnv | None = None
        if render:
            self._twin = AtariVectorEnv(
                num_envs=1,
                num_threads=1,
                img_height=_SCREEN_HEIGHT,
                img_width=_SCREEN_WIDTH,
                grayscale=False,
                maxpool=True,  # else pictures of every fourth frame would miss what flickers
                **emulation,
            )
        action_meanings = tuple(action.name for action in self._games.ale.get_action_set())
        self.spec = EnvironmentSpec(
            frame_shape=(1, frame_height, frame_width),
            frame_dtype="uint8",
            frame_stack=frame_stack,
            num_states=None,
            num_actions=len(action_meanings),
            action_meanings=action_meanings,
            frames_per_step=action_repeat,
            render_fps=_FRAMES_PER_SECOND / action_repeat,
            max_episode_steps=-(-max_frames_per_episode // action_repeat),
            preprocessing={
                "game": game,
                "action_repeat": action_repeat,
                "repeat_action_probability": repeat_action_probability,
                "noop_max": noop_max,
                "fire_on_reset": fire_on_reset,
                "full_action_set": full_action_set,
                "terminal_on_life_loss": terminal_on_life_loss,
                "clip_rewards": clip_rewards,
                "frame_height": frame_height,
                "frame_width": frame_width,
                "frame_stack": frame_stack,
                "max_pool": max_pool,
                "max_frames_per_episode": max_frames_per_episode,
            },
        )
        self._lives = np.zeros(num_envs, dtype=np.int32)
        self._was_ended = np.zeros(num_envs, dtype=np.bool_)
        self._picture: Array | None = None

    def reset(self, seeds: Sequence[int]) -> Array:
        """Start N new games; see `Environment.reset`. Seeds count modulo 2^31."""
        ale_seeds = np.array([int(seed) % _SEEDS for seed in seeds])
        frames, info = self._games.reset(seed=ale_seeds)
        self._lives = info["lives"]
        self._was_ended = np.zeros(self.num_envs, dtype=np.bool_)
        if self._twin is not None:
            pictures, _ = self._twin.reset(seed=ale_seeds[:1])
            self._picture = pictures[0, 0]
        return np.asarray(frames)

    def begin_anew(self, chosen: Array, seeds: Sequence[int], episodes: Array) -> Array:
        """Start other games where chosen; see `ReseedableEnvironment.begin_anew`. Not of games drawn."""
        ale_seeds = np.array([int(seed) % _SEEDS for seed in seeds])
        frames, info = self._games.reset(seed=ale_seeds, options={"reset_mask": chosen})
        self._lives = info["lives"]
        self._was_ended = self._was_ended & ~chosen
        return np.asarray(frames)

    def step(self, actions: Array) -> StepResult:
        """Take actions (N,) int64; see `StepResult`."""
        frames, scores, game_over, truncated, info = self._games.step(actions)
        if self._twin is not None:
            self._picture = self._twin.step(actions[:1])[0][0, 0]
        was_reset, self._was_ended = self._was_ended, game_over | truncated
        lives, self._lives = self._lives, info["lives"]
        terminated = game_over
        if self._terminal_on_life_loss:
            # At 0 lives some games linger before they are over; only one of the two may be a terminal.
            terminated = game_over | ((self._lives < lives) & (self._lives > 0) & ~was_reset)
        raw_rewards = scores.astype(np.float64)
        rewards = np.clip(raw_rewards, -1.0, 1.0) if self._clip_rewards else raw_rewards
        return StepResult(
            frames=frames,
            rewards=rewards.astype(np.float32),
            terminated=terminated,
            truncated=truncated,
            was_reset=was_reset,
            ended=self._was_ended,
            raw_rewards=raw_rewards,
        )

    def render(self) -> Array:
        """The screen of game 0 in colour, (210, 160, 3) uint8."""
        assert self._picture is not None, "made without render=True, or not yet reset"
        return self._picture

    def optimal_returns(self) -> None:
        """Nobody knows the best score of a game."""

    def path_drawing(self) -> None:
        """Games have no map."""
        return

    def select(self, chosen: Sequence[int]) -> Selection:
        """See `Environment.select`."""
        return Selection(self, chosen)

    def close(self) -> None:
        """Stop the games."""
        self._games.close()
        if self._twin is not None:
            self._twin.close()


def _check_game(game: str) -> None:
    games = set(roms.get_all_rom_ids()) - _FOR_TWO_PLAYERS
    if game in _FOR_TWO_PLAYERS:
        raise UserError("env.game", game, "is a game for two players only")
    if game not in games:
        snake_case = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", game).lower()
        raise UserError("env.game", game, f"no such game; {nearest(snake_case, games)}")
