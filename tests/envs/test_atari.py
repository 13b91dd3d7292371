from __future__ import annotations

from collections.abc import Container
from typing import Any

import numpy as np
import pytest
from ale_py import AtariVectorEnv, roms

from dqn.envs.atari import AtariEnvironment
from dqn.envs.base import StepResult
from dqn.errors import UserError


def make(**settings: Any) -> AtariEnvironment:
    defaults: dict[str, Any] = {
        "game": "breakout",
        "num_envs": 1,
        "action_repeat": 4,
        "repeat_action_probability": 0.0,
        "noop_max": 30,
        "fire_on_reset": False,
        "full_action_set": False,
        "terminal_on_life_loss": False,
        "clip_rewards": False,
        "frame_height": 84,
        "frame_width": 84,
        "frame_stack": 4,
        "max_pool": True,
        "max_frames_per_episode": 108_000,
        "num_threads": 1,
    }
    return AtariEnvironment(**defaults | settings)


def ale(**settings: Any) -> AtariVectorEnv:
    """ale-py's own environment, with nothing of ours around it."""
    defaults: dict[str, Any] = {
        "game": "breakout",
        "num_envs": 1,
        "noop_max": 30,
        "use_fire_reset": False,
        "reward_clipping": False,
    }
    return AtariVectorEnv(**defaults | settings)


def random_actions(steps: int, num_envs: int = 1, num_actions: int = 4) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(num_actions, size=(steps, num_envs))


def play(env: AtariEnvironment, steps: int, seeds: list[int]) -> tuple[np.ndarray[Any, Any], list[StepResult]]:
    first = env.reset(seeds)
    return first, [env.step(actions) for actions in random_actions(steps, len(seeds), env.spec.num_actions)]


# --- frames -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "ales"),
    [
        ({}, {}),
        (
            {"frame_height": 42, "frame_width": 60, "max_pool": False, "action_repeat": 3},
            {"img_height": 42, "img_width": 60, "maxpool": False, "frameskip": 3},
        ),
    ],
)
def test_stacked_frames_are_ales_own_stack(ours: dict[str, Any], ales: dict[str, Any]) -> None:
    """Stacked with zeros before each episode's start, through many short episodes of two environments."""
    env = make(num_envs=2, max_frames_per_episode=100, **ours)
    oracle = ale(num_envs=2, max_num_frames_per_episode=100, **ales)
    first = env.reset([11, 12])
    stack = np.concatenate([np.zeros_like(first)] * 3 + [first], axis=1)
    assert np.array_equal(stack, oracle.reset(seed=np.array([11, 12]))[0])
    resets = 0
    for actions in random_actions(110, 2):
        result = env.step(actions)
        stack[result.was_reset] = 0
        stack = np.concatenate([stack[:, 1:], result.frames], axis=1)
        expected, scores, over, cut, _ = oracle.step(actions)
        assert np.array_equal(stack, expected)
        assert np.array_equal(result.raw_rewards, scores)
        assert np.array_equal(result.ended, over | cut)
        resets += int(result.was_reset.sum())
    assert resets >= 4


def test_spec() -> None:
    spec = make(frame_height=60, frame_width=50, frame_stack=3, action_repeat=5, max_frames_per_episode=1001).spec
    assert (spec.frame_shape, spec.frame_dtype, spec.frame_stack) == ((1, 60, 50), "uint8", 3)
    assert spec.observation_shape == (3, 60, 50)
    assert (spec.frames_per_step, spec.max_episode_steps, spec.num_states) == (5, 201, None)
    assert (spec.num_actions, spec.action_meanings) == (4, ("NOOP", "FIRE", "RIGHT", "LEFT"))
    assert spec.preprocessing == {
        "game": "breakout",
        "action_repeat": 5,
        "repeat_action_probability": 0.0,
        "noop_max": 30,
        "fire_on_reset": False,
        "full_action_set": False,
        "terminal_on_life_loss": False,
        "clip_rewards": False,
        "frame_height": 60,
        "frame_width": 50,
        "frame_stack": 3,
        "max_pool": True,
        "max_frames_per_episode": 1001,
    }


def test_results_are_fresh_arrays() -> None:
    env = make()
    first = env.reset([1])
    results = [env.step(np.array([1])) for _ in range(20)]
    kept = [first.copy(), *(result.frames.copy() for result in results)]
    for _ in range(20):
        env.step(np.array([3]))
    assert all(np.array_equal(a, b) for a, b in zip([first, *(r.frames for r in results)], kept, strict=True))
    assert len({frame.tobytes() for frame in kept}) > 10


def test_the_full_action_set() -> None:
    spec = make(full_action_set=True).spec
    assert spec.num_actions == len(spec.action_meanings) == 18
    assert spec.action_meanings[:3] == ("NOOP", "FIRE", "UP")


# --- seeds --------------------------------------------------------------------------------------------------


def test_games_follow_their_seeds() -> None:
    def digest(seeds: list[int], env: AtariEnvironment) -> list[list[bytes]]:
        first, results = play(env, 60, seeds)
        frames = [first, *(result.frames for result in results)]
        return [[frame[i].tobytes() for frame in frames] for i in range(len(seeds))]

    env = make(num_envs=2, num_threads=2, repeat_action_probability=0.25)
    once = digest([0, 2**40 + 5], env)
    assert digest([0, 2**40 + 5], env) == once, "in the midst of a game, too"
    zero, six = digest([0, 6], make(num_envs=2, repeat_action_probability=0.25))
    assert zero == once[0]
    assert six != once[1]
    assert digest([3, 5], env)[1] == once[1], "seeds count modulo 2^31"


@pytest.mark.parametrize(("noop_max", "starts"), [(0, {1}), (2, {2}), (30, range(10, 30))])
def test_noops_at_the_start(noop_max: int, starts: Container[int]) -> None:
    """From 0 to noop_max - 1 of them, drawn anew for each game; Seaquest's screen changes all the time."""
    env = make(game="seaquest", noop_max=noop_max, max_frames_per_episode=4)
    frames = {env.reset([1]).tobytes()}
    for _ in range(25):
        env.step(np.array([0]))
        result = env.step(np.array([0]))
        assert result.was_reset[0]
        frames.add(result.frames.tobytes())
    assert len(frames) in starts


def test_fire_on_reset_starts_the_ball() -> None:
    """Without a FIRE Breakout waits: no life is lost."""
    lives = {}
    for fire in (False, True):
        env = make(fire_on_reset=fire, terminal_on_life_loss=True, noop_max=0)
        env.reset([0])
        lives[fire] = sum(int(env.step(np.array([0])).terminated[0]) for _ in range(40))
    assert lives == {False: 0, True: 1}


def test_sticky_actions_change_the_game() -> None:
    plain, sticky = make(), make(repeat_action_probability=0.5)
    frames = [[result.frames.tobytes() for result in play(env, 30, [1])[1]] for env in (plain, sticky)]
    assert frames[0] != frames[1]


# --- ends and rewards ---------------------------------------------------------------------------------------


def test_lives_and_games_over_whole_streams() -> None:
    """A lost life is terminal for learning where so configured; games and raw rewards stay whole."""
    plain = play(make(), 450, [4])[1]
    split = play(make(terminal_on_life_loss=True), 450, [4])[1]
    oracle = ale()
    lives = oracle.reset(seed=np.array([4]))[1]["lives"][0]
    was_over = False
    games = lost_lives = 0
    for actions, whole, by_life in zip(random_actions(450), plain, split, strict=True):
        _, scores, over, _, info = oracle.step(actions)
        lost = not was_over and 0 < info["lives"][0] < lives
        for result in (whole, by_life):
            assert result.raw_rewards == scores
            assert result.ended == over
            assert result.was_reset == was_over
            assert not result.truncated
        assert whole.terminated == over
        assert by_life.terminated == (over | lost)
        assert np.array_equal(whole.frames, by_life.frames)
        lives, was_over = info["lives"][0], over[0]
        games += int(over[0])
        lost_lives += int(lost)
    assert games >= 2
    assert 4 * games <= lost_lives <= 4 * (games + 1), "five lives; the last one's loss is the game's end"


def test_only_lives_lost_within_a_game_are_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some games linger at 0 lives; some give extra ones, so that a reset after the frame cap takes them back."""
    env = make(terminal_on_life_loss=True)
    env.reset([0])
    events = [  # lives, game over, frame cap, whether learning sees a terminal
        (3, False, False, True),
        (2, False, False, True),
        (0, False, False, False),  # lingers
        (0, True, False, True),
        (3, False, False, False),  # the reset
        (4, False, False, False),  # an extra life
        (4, False, True, False),
        (3, False, False, False),  # the reset
        (2, False, True, True),  # a life lost in the very step that is cut
    ]
    script = iter(events)

    def step(actions: np.ndarray[Any, Any]) -> tuple[Any, ...]:
        lives, over, cut, _ = next(script)
        none = np.zeros((1, 1, 84, 84), np.uint8), np.zeros(1, np.int32)
        return *none, np.array([over]), np.array([cut]), {"lives": np.array([lives])}

    monkeypatch.setattr(env._games, "step", step)
    results = [env.step(np.array([0])) for _ in events]
    assert [bool(result.terminated[0]) for result in results] == [event[3] for event in events]
    assert [bool(result.ended[0]) for result in results] == [event[1] or event[2] for event in events]
    assert [step for step, result in enumerate(results) if result.was_reset[0]] == [4, 7]


def test_only_learning_sees_clipped_rewards() -> None:
    plain, clipped = (play(make(game="space_invaders", clip_rewards=clip), 250, [1])[1] for clip in (False, True))
    scores = np.array([result.raw_rewards for result in plain])
    assert {5.0, 10.0} <= set(scores.ravel().tolist())
    assert np.array_equal(scores, [result.raw_rewards for result in clipped])
    assert np.array_equal(scores, [result.rewards for result in plain])
    assert np.array_equal(scores.clip(-1, 1), [result.rewards for result in clipped])
    assert clipped[0].rewards.dtype == np.float32
    assert scores.dtype == np.float64


def test_lost_points_stay_negative() -> None:
    env = make(game="pong", clip_rewards=True)
    env.reset([1])
    assert {float(env.step(np.array([0])).rewards[0]) for _ in range(75)} == {0.0, -1.0}


@pytest.mark.parametrize(("frames", "steps"), [(98, 25), (101, 26)])
def test_the_frame_cap_truncates(frames: int, steps: int) -> None:
    """It counts from the end of the no-ops, and the call after it is the reset."""
    env = make(max_frames_per_episode=frames)
    assert env.spec.max_episode_steps == steps
    env.reset([5])
    for _ in range(3):
        for step in range(1, steps + 1):
            result = env.step(np.array([0]))
            assert result.truncated[0] == result.ended[0] == (step == steps)
            assert not result.terminated[0]
            assert not result.was_reset[0]
        assert env.step(np.array([0])).was_reset[0]


def test_a_reset_forgets_the_game_before() -> None:
    env = make(max_frames_per_episode=4, noop_max=0, terminal_on_life_loss=True)
    first = env.reset([5])
    assert env.step(np.array([0])).ended[0]
    assert np.array_equal(env.reset([5]), first)
    assert not env.step(np.array([0])).was_reset[0]


# --- pictures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stickiness", "num_envs"), [(0.0, 1), (0.25, 2)])
def test_the_coloured_twin_stays_in_step(stickiness: float, num_envs: int) -> None:
    """Over a whole game and into the next, each picture is of the game that is played."""
    env = make(
        frame_height=210,
        frame_width=160,
        num_envs=num_envs,
        repeat_action_probability=stickiness,
        fire_on_reset=True,
        render=True,
    )
    env.reset([8, 9][:num_envs])
    luminance = np.array([0.299, 0.587, 0.114])
    steps_of_second_game = 0
    for actions in random_actions(600, num_envs):
        result = env.step(actions)
        picture = env.render()
        assert picture.shape == (210, 160, 3)
        assert picture.dtype == np.uint8
        # Pooled in colour or in grey: they differ where one colour gives way to another.
        different = np.abs(picture @ luminance - result.frames[0, 0]) > 2
        assert different.mean() < 0.001
        steps_of_second_game += int(result.was_reset[0] or steps_of_second_game > 0)
        if steps_of_second_game == 30:
            break
    assert steps_of_second_game == 30


def test_the_twin_changes_nothing() -> None:
    plain, drawn = (play(make(render=render), 40, [1])[1] for render in (False, True))
    assert all(np.array_equal(a.frames, b.frames) for a, b in zip(plain, drawn, strict=True))


# --- games --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("game", "hint"),
    [
        ("Breakout", "did you mean breakout"),
        ("SpaceInvaders", "did you mean space_invaders"),
        ("ALE/Breakout-v5", "did you mean breakout"),
        ("MsPacman", "did you mean ms_pacman"),
        ("breakot", "did you mean breakout"),
        ("zzzzzzzz", "are valid"),
        ("joust", "two players only"),
    ],
)
def test_unknown_games(game: str, hint: str) -> None:
    with pytest.raises(UserError, match=hint) as caught:
        make(game=game)
    assert (caught.value.key, caught.value.value) == ("env.game", game)


@pytest.mark.parametrize("game", ["pong", "seaquest", "montezuma_revenge"])
def test_other_games_play(game: str) -> None:
    assert game in roms.get_all_rom_ids()
    first, results = play(make(game=game), 20, [0])
    assert first.any()
    assert len({result.frames.tobytes() for result in results}) > 1
