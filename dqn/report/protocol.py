"""How a score was measured, and in what two such ways differ; much of it only an Atari game has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from dqn.report.runs import Run
from dqn.report.settings import Group, Settings

BEST = "best of training"  # the highest of its evaluations is the score
BEST_AGAIN = "best of training evaluated again"
LAST = "last network"
TRAINING_RETURNS = "training returns"
AS_IN_TRAINING = "exploration as in training"

# The games at the end of training make its score: of as many frames as in Dopamine, of a short one its last tenth's.
_WINDOW_FRAMES = 1_000_000
_WINDOW_SHARE = 0.1
_NETWORKS = {"best": BEST_AGAIN, "last": LAST}
_FRAMES_PER_MINUTE = 3600


@dataclass(frozen=True)
class Protocol:
    """What a score depends on beside the agent; None where it is not known."""

    sticky_actions: float | None  # the probability that an action is repeated
    life_loss_is_terminal: bool | None  # for learning
    max_frames: float | None  # of one game
    starts: float | str | None  # no-ops at most, or words
    fire: bool | None  # whether FIRE is pressed at a game's start
    epsilon: float | str | None
    games: float | str | None  # that make the score of one run
    network: str | None
    frames: float | None  # of training

    @property
    def is_of_training(self) -> bool:
        """Whether the score is that of the games in which the agent learns."""
        return self.network == TRAINING_RETURNS

    def unknown_beside(self, other: Protocol) -> list[str]:
        """What is known of the other only, in words."""
        return [
            called
            for name, (called, _) in _PARTS.items()
            if getattr(self, name) is None and getattr(other, name) is not None
        ]


def last_games(frames: float) -> str:
    """What makes a score of training: the games that ended in the last so many frames."""
    return f"games of the last {_millions(frames)}"


def differences(one: Protocol, other: Protocol) -> tuple[list[str], list[str]]:
    """What is known of both and not the same, in words of the one and of the other."""
    pairs = [(_words(one, part.name), _words(other, part.name)) for part in fields(Protocol)]
    differing = [(first, second) for first, second in pairs if first and second and first != second]
    return [first for first, _ in differing], [second for _, second in differing]


def scored_runs(group: Group, of_training: bool) -> list[tuple[Run, float]]:
    """The runs that have a score, with it: of the final evaluation, or of the last games of training.

    Only runs that ended as planned have one of training, so that one mean is of equally long runs.
    """
    if not of_training:
        return [(run, score) for run in group.runs if (score := run.final_return) is not None]
    ended = [run for run in group.runs if run.status in ("completed", "converged")]
    return [(run, score) for run in ended if (score := _training_score(run)) is not None]


def task_of(settings: Settings) -> Any:
    """The game, or the id of the environment."""
    return settings.get("env.game" if settings.get("env.kind") == "atari" else "env.id")


def protocol_of(group: Group, of_training: bool) -> Protocol:
    """How the runs of a group are scored, as their configs and summaries tell."""
    settings, runs = group.settings, [run for run, _ in scored_runs(group, of_training)]

    def of_game(key: str) -> Any:
        value = None if of_training else _known(settings, f"evaluation.env.{key}")
        return _known(settings, f"env.{key}") if value is None else value

    noop_max = of_game("noop_max")
    return Protocol(
        sticky_actions=of_game("repeat_action_probability"),
        life_loss_is_terminal=_known(settings, "env.terminal_on_life_loss"),
        max_frames=of_game("max_frames_per_episode"),
        starts=None if noop_max is None else max(noop_max - 1, 0),  # it says fewer than how many
        fire=of_game("fire_on_reset"),
        epsilon=AS_IN_TRAINING if of_training else _known(settings, "exploration.evaluation_epsilon"),
        games=_training_games(runs) if of_training else _known(settings, "evaluation.final_episodes"),
        network=TRAINING_RETURNS if of_training else _network(runs),
        frames=max((run.steps * run.frames_per_step for run in runs), default=None),
    )


def _training_score(run: Run) -> float | None:
    episodes = run.curves["episode"]
    recent = episodes.returns[(run.steps - episodes.steps) * run.frames_per_step < _window(run)]
    return float(recent.mean()) if len(recent) else None


def _training_games(runs: Sequence[Run]) -> str | None:
    return last_games(max(map(_window, runs))) if runs else None


def _window(run: Run) -> float:
    return min(_WINDOW_FRAMES, _WINDOW_SHARE * run.steps * run.frames_per_step)


def _network(runs: Sequence[Run]) -> str | None:
    networks = {str((run.final_evaluation or {}).get("network")) for run in runs}
    return _NETWORKS.get(networks.pop()) if len(networks) == 1 else None


def _known(settings: Settings, key: str) -> Any:
    """A number or a truth value; whatever else somebody's config has in its place says nothing."""
    value = settings.get(key)
    return value if isinstance(value, (int, float)) else None


def _words(protocol: Protocol, part: str) -> str | None:
    value = getattr(protocol, part)
    return value if value is None or isinstance(value, str) else _PARTS[part][1](value)


def _millions(frames: float) -> str:
    return f"{frames / 1e6:{',.0f' if frames >= 1e8 else '.3g'}}M frames"


# What a part is called, and how a value of it reads.
_PARTS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "sticky_actions": (
        "sticky actions",
        lambda chance: f"sticky actions {chance:g}" if chance else "no sticky actions",
    ),
    "life_loss_is_terminal": ("lost lives", lambda ends: f"lost lives {'' if ends else 'not '}terminal"),
    "max_frames": ("longest game", lambda frames: f"{frames / _FRAMES_PER_MINUTE:.3g}-minute games"),
    "starts": ("starts", lambda noops: f"up to {noops:g} no-ops" if noops else "no no-ops"),
    "fire": ("FIRE at the start", lambda fire: f"{'' if fire else 'no '}FIRE at the start"),
    "epsilon": ("epsilon", lambda epsilon: f"epsilon {epsilon:g}"),
    "games": ("number of games", lambda games: f"{games:,} games"),
    "network": ("best or last network", str),
    "frames": ("frames of training", _millions),
}
