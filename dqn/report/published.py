"""Scores of agents in Atari games and CartPole as papers and repositories report them.

A source stands for the presets that are its agent; of `pqn`, whose repository has pictures only, none is known, nor of
the CartPole agents of Dopamine, keras-rl, purejaxql and the 2017 post. Of several tables in a paper the one whose games
start with no-ops is here, as games do in this project; one of human starts only where no other was found. Left out are
numbers that look like misprints: QR-DQN in Q*bert, and Double DQN in Space Invaders and Seaquest as of the C51 paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from dqn.report.protocol import AS_IN_TRAINING, BEST, BEST_AGAIN, TRAINING_RETURNS, Protocol, last_games

Read = Literal["in the paper", "in the repository", "in the data", "in a transcription"]


@dataclass(frozen=True)
class Score:
    """A mean return; `spread` is what stands after its plus-minus sign, where there is one."""

    mean: float
    spread: float | None = None


@dataclass(frozen=True)
class Source:
    """Scores of one agent from one place.

    Args:
        presets: names of the presets that are this agent.
        title: short, for a table.
        citation: where the scores stand.
        read: where they were read for this table, which says how far to trust it.
        protocol: how they were measured.
        runs: how many runs a score is the mean of; None: not known.
        spread_over: what the spread of a score is over; None: no score has one.
        scores: by game, as `env.game` calls it, or by the environment's id, `env.id`.
    """

    presets: tuple[str, ...]
    title: str
    citation: str
    read: Read
    protocol: Protocol
    runs: int | None
    spread_over: Literal["games", "runs"] | None
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class Baseline:
    """What random play and a human score in a game."""

    random: float
    human: float

    def normalise(self, score: float) -> float:
        """0 for random play, 1 for the human."""
        return (score - self.random) / (self.human - self.random)


# Of games with no-op starts and at most 30 minutes: github.com/google-deepmind/dqn_zoo, dqn_zoo/atari_data.py.
BASELINES = {
    "breakout": Baseline(random=1.7, human=30.5),
    "pong": Baseline(random=-20.7, human=14.6),
    "space_invaders": Baseline(random=148.0, human=1668.7),
    "seaquest": Baseline(random=68.4, human=42054.7),
}


def published(preset: object, task: object) -> Iterator[tuple[Source, Score]]:
    """What is known of a preset in a game, or in the environment of an id."""
    for source in SOURCES:
        if preset in source.presets:
            yield from ((source, score) for name, score in source.scores.items() if name == task)


def _scores(
    breakout: float | None = None,
    pong: float | None = None,
    space_invaders: float | None = None,
    seaquest: float | None = None,
) -> dict[str, Score]:
    means = {"breakout": breakout, "pong": pong, "space_invaders": space_invaders, "seaquest": seaquest}
    return {game: Score(mean) for game, mean in means.items() if mean is not None}


_NATURE = Protocol(
    sticky_actions=0.0,
    life_loss_is_terminal=True,
    max_frames=18_000,
    starts=30,
    fire=False,
    epsilon=0.05,
    games=30,
    network=BEST,
    frames=200_000_000,
)
# What is None from here on was not found in what was read. Whether the 10 million frames of 2013 count skipped ones is
# not said.
_NIPS = Protocol(
    sticky_actions=None,
    life_loss_is_terminal=None,
    max_frames=None,
    starts=None,
    fire=False,
    epsilon=0.05,
    games=None,
    network=None,
    frames=None,
)
_DEEPMIND = replace(_NATURE, max_frames=None, epsilon=0.001, games=None)
_RERUN = replace(_DEEPMIND, max_frames=108_000, epsilon=None)
_C51 = replace(_DEEPMIND, max_frames=108_000)
_RAINBOW = replace(_RERUN, games=200, network=BEST_AGAIN)
_NOISY = replace(_DEEPMIND, epsilon=None, network=None)
_HUMAN_STARTS = replace(_DEEPMIND, starts="human starts", network=None)
_MUNCHAUSEN = Protocol(
    sticky_actions=0.25,
    life_loss_is_terminal=False,
    max_frames=108_000,
    starts=None,
    fire=None,
    epsilon=0.001,
    games=None,
    network=None,
    frames=200_000_000,
)
_DOPAMINE = Protocol(
    sticky_actions=0.25,
    life_loss_is_terminal=False,
    max_frames=108_000,
    starts=0,
    fire=False,
    epsilon=AS_IN_TRAINING,
    games=last_games(1_000_000),
    network=TRAINING_RETURNS,
    frames=200_000_000,
)
_CLEANRL = Protocol(
    sticky_actions=0.0,
    life_loss_is_terminal=True,
    max_frames=108_000,
    starts=30,
    fire=True,
    epsilon=AS_IN_TRAINING,
    games=None,
    network=TRAINING_RETURNS,
    frames=40_000_000,
)
_SB3_ZOO = replace(_CLEANRL, epsilon=None, games="games of 150,000 steps", network=None)
# What is None in these two is nothing that CartPole has.
_CARTPOLE_CLEANRL = Protocol(
    sticky_actions=None,
    life_loss_is_terminal=None,
    max_frames=None,
    starts=None,
    fire=None,
    epsilon=AS_IN_TRAINING,
    games=None,
    network=TRAINING_RETURNS,
    frames=500_000,
)
_CARTPOLE_ZOO = replace(_CARTPOLE_CLEANRL, epsilon=None, games=300, network=None, frames=50_000)

_ARCHIVE = "github.com/seungjaeryanlee/endtoend.ai, _pages/archive/envs/gym/atari"


def _paper(preset: str, title: str, where: str, protocol: Protocol, scores: Mapping[str, Score]) -> Source:
    return Source((preset,), title, where, "in the paper", protocol, None, None, scores)


def _transcribed(
    preset: str, title: str, paper: str, protocol: Protocol, scores: Mapping[str, Score], by: str = _ARCHIVE
) -> Source:
    return Source((preset,), title, f"{paper}, as in {by}", "in a transcription", protocol, None, None, scores)


def _dopamine(
    presets: tuple[str, ...], series: Literal["first", "2024"], breakout: float, others: Mapping[str, Score]
) -> Iterator[Source]:
    """A series holds means over a million frames each: of Breakout the last is here, else the mean of the last five."""
    files = "*.json" if series == "first" else "*_CNN.json"
    citation = f"Castro et al. 2018, github.com/google/dopamine, baselines/atari/data/{files}"
    protocol = _DOPAMINE if series == "2024" else replace(_DOPAMINE, frames=199_000_000)
    of_five = replace(protocol, games=last_games(5_000_000))
    for how, runs, scores in ((protocol, 5, _scores(breakout)), (of_five, None, others)):
        if scores:
            yield Source(presets, f"Dopamine, {series} series", citation, "in the data", how, runs, None, scores)


SOURCES: tuple[Source, ...] = (
    _transcribed("dqn_nips2013", "Mnih et al. 2013", "arXiv 1312.5602", _NIPS, _scores(168)),
    Source(
        ("dqn_nature2015",),
        "Mnih et al. 2015",
        "Nature 518, Extended Data Table 2",
        "in the paper",
        _NATURE,
        1,
        "games",
        {**_scores(pong=18.9, space_invaders=1976, seaquest=5286), "breakout": Score(401.2, 26.9)},
    ),
    _transcribed("dqn_nature2015", "Bellemare et al. 2017", "arXiv 1707.06887", _RERUN, _scores(385.5)),
    _paper(
        "double_dqn",
        "van Hasselt et al. 2016",
        "arXiv 1509.06461, Table 3",
        replace(_NATURE, games=None),
        _scores(375.0, 21.0, 3154.6, 7995),
    ),
    _transcribed("double_dqn", "Bellemare et al. 2017", "arXiv 1707.06887", _RERUN, _scores(418.5)),
    _paper(
        "double_dqn_tuned",
        "van Hasselt et al. 2016",
        "arXiv 1509.06461, Table 5",
        replace(_HUMAN_STARTS, max_frames=108_000, games=100),
        _scores(368.9),
    ),
    _transcribed("dueling", "Wang et al. 2016", "arXiv 1511.06581", _DEEPMIND, _scores(345.3, 21.0, 6427.3, 50254.2)),
    _transcribed("prioritized", "Schaul et al. 2016", "arXiv 1511.05952", _HUMAN_STARTS, _scores(371.6)),
    _transcribed("prioritized_ranked", "Schaul et al. 2016", "arXiv 1511.05952", _HUMAN_STARTS, _scores(343.0)),
    _transcribed("c51", "Bellemare et al. 2017", "arXiv 1707.06887", _C51, _scores(748, 20.9, 5747, 266434)),
    _transcribed("c51", "Hessel et al. 2018", "arXiv 1710.02298", _RAINBOW, _scores(612.5)),
    _transcribed("noisy", "Fortunato et al. 2018", "arXiv 1706.10295", _NOISY, _scores(516, 21, 2186, 2282)),
    _transcribed("rainbow", "Hessel et al. 2018", "arXiv 1710.02298", _RAINBOW, _scores(417.5, 20.9, 18789, 15898.9)),
    _transcribed("qr_dqn", "Dabney et al. 2018", "arXiv 1710.10044", _DEEPMIND, _scores(742, 21.0, 20972, 8268)),
    _transcribed("iqn", "Dabney et al. 2018", "arXiv 1806.06923", _DEEPMIND, _scores(734, 21.0, 28888, 30140)),
    _transcribed(
        "munchausen_dqn",
        "Vieillard et al. 2020",
        "arXiv 2007.14430",
        _MUNCHAUSEN,
        _scores(331),
        by="github.com/sony/nnabla-rl",
    ),
    _transcribed(
        "munchausen_iqn",
        "Vieillard et al. 2020",
        "arXiv 2007.14430",
        _MUNCHAUSEN,
        _scores(320),
        by="github.com/sony/nnabla-rl",
    ),
    *_dopamine(("dopamine_dqn",), "first", 96.2, _scores(None, 15.9, 1738, 1505)),
    *_dopamine(("dopamine_dqn_adam",), "first", 186.1, _scores(None, 19.7, 4491, 5125)),
    *_dopamine(("dopamine_dqn_adam",), "2024", 199.4, _scores(None, 19.5, 4440, 5644)),
    *_dopamine(("dopamine_rainbow",), "first", 120.1, _scores(None, 20.1, 4075, 9820)),
    *_dopamine(("dopamine_rainbow",), "2024", 122.0, _scores(None, 20.2, 4965, 17959)),
    Source(
        ("cleanrl_dqn",),
        "CleanRL",
        "github.com/vwxyzjn/cleanrl, docs/rl-algorithms/dqn.md",
        "in the repository",
        _CLEANRL,
        3,
        "runs",
        {"breakout": Score(366.9, 39.9)},
    ),
    Source(
        ("cleanrl_dqn",),
        "CleanRL",
        "github.com/vwxyzjn/cleanrl, docs/rl-algorithms/rainbow.md",
        "in the repository",
        _CLEANRL,
        3,
        None,
        _scores(space_invaders=1441.7),
    ),
    Source(
        ("sb3_zoo_dqn",),
        "RL Zoo",
        "github.com/DLR-RM/rl-baselines3-zoo, benchmark.md",
        "in the repository",
        replace(_SB3_ZOO, games=55),
        1,
        "games",
        {"breakout": Score(358.3, 62.0)},
    ),
    Source(
        ("sb3_zoo_dqn",),
        "RL Zoo",
        "github.com/DLR-RM/rl-baselines3-zoo, benchmark.md",
        "in the repository",
        _SB3_ZOO,
        1,
        None,
        _scores(pong=20.6, space_invaders=622.7, seaquest=2000),
    ),
    Source(
        ("cartpole_cleanrl",),
        "CleanRL",
        "github.com/vwxyzjn/cleanrl, docs/rl-algorithms/dqn.md",
        "in the repository",
        _CARTPOLE_CLEANRL,
        3,
        "runs",
        {"CartPole-v1": Score(488.69, 16.11)},
    ),
    Source(
        ("cartpole_sb3_zoo",),
        "RL Zoo",
        "github.com/DLR-RM/rl-baselines3-zoo, benchmark.md",
        "in the repository",
        _CARTPOLE_ZOO,
        1,
        "games",
        {"CartPole-v1": Score(500.0, 0.0)},
    ),
)
