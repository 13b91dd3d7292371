from __future__ import annotations

import io
from dataclasses import fields
from itertools import groupby
from typing import Any

import pytest
from made_up_runs import CARTPOLE, WriteRun

from dqn.compose import CONF, compose_config
from dqn.report.compare import CompareOptions, compare
from dqn.report.protocol import Protocol, differences, protocol_of
from dqn.report.published import BASELINES, SOURCES, published
from dqn.report.runs import find_runs
from dqn.report.settings import group_runs
from dqn.terminal import make_console

ATARI = {
    "kind": "atari",
    "game": "breakout",
    "action_repeat": 4,
    "repeat_action_probability": 0.0,
    "noop_max": 31,  # fewer than so many
    "fire_on_reset": False,
    "terminal_on_life_loss": True,
    "max_frames_per_episode": 108_000,
}
DOPAMINE = {**ATARI, "repeat_action_probability": 0.25, "noop_max": 0, "terminal_on_life_loss": False}
MILLION_FRAMES = 250_000  # agent steps
WIDTH = 400  # so that no line is broken


def settings(
    env: dict[str, Any] = ATARI, epsilon: Any = 0.05, games: Any = 30, **of_evaluations: Any
) -> dict[str, Any]:
    return {
        "env": env,
        "exploration": {"evaluation_epsilon": epsilon},
        "evaluation": {"final_episodes": games, "env": of_evaluations},
    }


def printed(pattern: str = "runs/*") -> str:
    console = make_console(file=io.StringIO(), width=WIDTH)
    compare(CompareOptions(runs=(pattern,)), console)
    text: str = console.file.getvalue()
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


def section() -> list[str]:
    """The lines of the section, without its title and its headings."""
    _, _, text = printed().partition("Published scores, below ours\n")
    return [
        line for line in text.splitlines() if line and "─" not in line and not line.startswith(("Picture", "seeds"))
    ]


def ours(score: float, steps: int, write_run: WriteRun, **others: Any) -> list[str]:
    """The section for one run with such a final score after so many steps."""
    write_run("runs/a", **{"evaluations": [(steps, score)], "final": score, **others})
    return section()


# --- what is shown ---


def test_the_section_below_ours(write_run: WriteRun) -> None:
    for seed, score in enumerate([10.0, 20.0, 30.0, 40.0]):
        write_run(
            f"runs/{seed}",
            seed=seed,
            name="dqn_nature2015",
            evaluations=[(50_000_000, score)],
            final=score,
            **settings(),
        )
    assert section() == [
        # (25 - 1.7) / (30.5 - 1.7)
        "dqn_nature2015 4 25.0 15.0 to 35.0 81",
        "Mnih et al. 2015 1 401.2 ± 26.9 1387",
        "Bellemare et al. 2017 - 385.5 - 1333",
        "dqn_nature2015, Mnih et al. 2015: Nature 518, Extended Data Table 2 (read in the paper); ± is over games.",
        "theirs: 5-minute games, best of training; ours: 30-minute games, best of training evaluated again",
        "dqn_nature2015, Bellemare et al. 2017: arXiv 1707.06887, as in github.com/seungjaeryanlee/endtoend.ai, "
        "_pages/archive/envs/gym/atari (read in a transcription).",
        "theirs: best of training; ours: best of training evaluated again",
        "not known of theirs: epsilon, number of games",
        "human %: in breakout, 0 is 1.7 (random play), 100 is 30.5.",
    ]


def test_every_difference_is_named(write_run: WriteRun) -> None:
    env = {**DOPAMINE, "game": "pong", "noop_max": 11, "fire_on_reset": True, "max_frames_per_episode": 97_200}
    lines = ours(-20.7, 25_000, write_run, name="dqn_nature2015", **settings(env, epsilon=0.001, games=1000))
    assert lines[0] == "dqn_nature2015 1 -20.7 - 0"
    assert lines[3] == (
        "theirs: no sticky actions, lost lives terminal, 5-minute games, up to 30 no-ops, no FIRE at the start, "
        "epsilon 0.05, 30 games, best of training, 200M frames; "
        "ours: sticky actions 0.25, lost lives not terminal, 27-minute games, up to 10 no-ops, FIRE at the start, "
        "epsilon 0.001, 1,000 games, best of training evaluated again, 0.1M frames"
    )
    assert not any("not known" in line for line in lines)


def test_no_line_where_nothing_differs(write_run: WriteRun) -> None:
    env = {**ATARI, "game": "seaquest"}
    lines = ours(68.4, 50_000_000, write_run, name="rainbow", **settings(env, epsilon=0.0, games=200))
    assert lines == [
        "rainbow 1 68.4 - 0",
        "Hessel et al. 2018 - 15,899 - 38",
        "rainbow, Hessel et al. 2018: arXiv 1710.02298, as in github.com/seungjaeryanlee/endtoend.ai, "
        "_pages/archive/envs/gym/atari (read in a transcription).",
        "not known of theirs: epsilon",
        "human %: in seaquest, 0 is 68.4 (random play), 100 is 42054.7.",
    ]


def test_a_whole_config_leaves_nothing_of_ours_unknown(write_run: WriteRun) -> None:
    config = compose_config(["experiment=breakout"])
    config = {key: value for key, value in config.items() if key not in ("name", "seed", "resume", "logger")}
    write_run("runs/a", name="c51", final=1.0, evaluations=[(100, 1.0)], **config)
    (group,) = group_runs(find_runs(["runs/a"]))
    assert protocol_of(group, of_training=False) == Protocol(
        sticky_actions=0.0,
        life_loss_is_terminal=True,
        max_frames=108_000,
        starts=29,
        fire=False,
        epsilon=0.01,
        games=32,
        network="best of training evaluated again",
        frames=400,
    )


def test_human_starts_and_the_environment_of_evaluations(write_run: WriteRun) -> None:
    of_evaluations = {"noop_max": 0, "repeat_action_probability": 0.1, "max_frames_per_episode": 36_000}
    lines = ours(
        1.7, 50_000_000, write_run, name="double_dqn_tuned", **settings(epsilon=0.001, games=100, **of_evaluations)
    )
    assert lines[3:5] == [
        "theirs: no sticky actions, 30-minute games, human starts; "
        "ours: sticky actions 0.1, 10-minute games, no no-ops",
        "not known of theirs: best or last network",
    ]


def test_training_returns_stand_beside_training_returns(write_run: WriteRun) -> None:
    for seed in range(2):
        last = 200 * MILLION_FRAMES
        # the first of these ended just before the last million frames
        episodes = [(last - MILLION_FRAMES, 900.0), (last - MILLION_FRAMES + 1, 60.0), (last, 80.0 + 20 * seed)]
        write_run(
            f"runs/{seed}",
            seed=seed,
            name="dopamine_dqn_adam",
            episodes=episodes,
            final=5.0,
            **settings(DOPAMINE),
        )
    write_run("runs/2", seed=2, name="dopamine_dqn_adam", episodes=[(9, 1.0)], summary=False, **settings(DOPAMINE))
    citation = "Castro et al. 2018, github.com/google/dopamine, baselines/atari/data"
    assert section() == [
        "dopamine_dqn_adam, training 2 of 3 75.0 70.0 to 80.0 255",
        "Dopamine, first series 5 186.1 - 640",
        "Dopamine, 2024 series 5 199.4 - 686",
        f"dopamine_dqn_adam, Dopamine, first series: {citation}/*.json (read in the data).",
        "theirs: 199M frames; ours: 200M frames",
        f"dopamine_dqn_adam, Dopamine, 2024 series: {citation}/*_CNN.json (read in the data).",
        "human %: in breakout, 0 is 1.7 (random play), 100 is 30.5.",
    ]


def test_cartpole_has_its_own_and_nothing_that_only_games_have(write_run: WriteRun) -> None:
    of_cartpole = {"exploration": {"evaluation_epsilon": 0.0}, "evaluation": {"final_episodes": 100}}
    for seed, score in enumerate([490.0, 500.0]):
        write_run(
            f"runs/{seed}",
            seed=seed,
            name="cartpole_sb3_zoo",
            evaluations=[(50_000, score)],
            final=score,
            **of_cartpole,
        )
    # Half a million frames are a short training: the last tenth counts.
    episodes = [(450_000, 9.0), (450_001, 480.0), (500_000, 500.0)]
    write_run("runs/c", name="cartpole_cleanrl", episodes=episodes, final=5.0, **of_cartpole)
    lines = section()
    assert lines == [
        "cartpole_sb3_zoo 2 495.0 490.0 to 500.0 -",
        "RL Zoo 1 500.0 ± 0.000 -",
        "cartpole_cleanrl, training 1 490.0 - -",
        "CleanRL 3 488.7 ± 16.1 -",
        "cartpole_sb3_zoo, RL Zoo: github.com/DLR-RM/rl-baselines3-zoo, benchmark.md (read in the repository); "
        "± is over games.",
        "theirs: 300 games; ours: 100 games",
        "not known of theirs: epsilon, best or last network",
        "cartpole_cleanrl, CleanRL: github.com/vwxyzjn/cleanrl, docs/rl-algorithms/dqn.md (read in the repository); "
        "± is over runs.",
        "not known of theirs: number of games",
    ]


def test_runs_without_a_score_have_dashes(write_run: WriteRun) -> None:
    write_run("runs/a", name="c51", evaluations=[(100, 1.0)], summary=False, **settings())
    lines = section()
    assert lines[:2] == ["c51 0 of 1 - - -", "Bellemare et al. 2017 - 748.0 - 2591"]
    assert "theirs: epsilon 0.001; ours: epsilon 0.05" in lines  # what only a result tells is not compared


def test_a_score_that_is_no_number_counts_for_nothing(write_run: WriteRun) -> None:
    for seed, score in enumerate([1.7, float("nan")]):
        write_run(f"runs/{seed}", seed=seed, name="c51", evaluations=[(100, score)], final=score, **settings())
    assert section()[0] == "c51 1 of 2 1.700 - 0"
    assert "c51, seed 1: completed, 100 steps so far; its mean return is no number" in printed()


def test_the_last_network_is_not_the_best(write_run: WriteRun) -> None:
    path = write_run("runs/a", name="c51", evaluations=[(50_000_000, 1.7)], final=1.7, **settings(epsilon=0.001))
    summary = path / "summary.json"
    summary.write_text(summary.read_text().replace('"best"', '"last"'))
    assert "theirs: best of training; ours: last network" in section()


# --- what is not ---


@pytest.mark.parametrize(
    ("name", "env"),
    [
        ("breakout", ATARI),
        ("keras_rl_dqn", ATARI),
        ("dqn_nature2015", {**ATARI, "game": "zaxxon"}),
        ("dqn_nature2015", {**ATARI, "kind": "else"}),
        ("dqn_nature2015", CARTPOLE),
        (["dqn_nature2015"], {**ATARI, "game": ["breakout"]}),
    ],
)
def test_nothing_is_shown_where_nothing_is_published(write_run: WriteRun, name: Any, env: dict[str, Any]) -> None:
    write_run("runs/a", name=name, evaluations=[(100, 1.0)], final=1.0, **settings(env))
    text = printed()
    assert "Final evaluation" in text
    assert not any(word in text for word in ("Published", "theirs", "human %"))


def test_only_the_groups_that_have_a_counterpart_are_in_the_section(write_run: WriteRun) -> None:
    write_run("runs/a", name="breakout", evaluations=[(100, 1.0)], final=1.0, **settings())
    write_run("runs/b", name="munchausen_dqn", evaluations=[(100, 1.0)], final=1.0, **settings())
    lines = section()
    assert lines[:2] == ["munchausen_dqn 1 1.000 - -2", "Vieillard et al. 2020 - 331.0 - 1143"]
    assert not any(line.startswith("breakout") for line in lines)


def test_text_of_a_config_stays_text(write_run: WriteRun) -> None:
    nasty = "\x1b[2J[red]a"
    for number, tag in enumerate((nasty, "plain")):
        env = {**ATARI, "noop_max": nasty, "fire_on_reset": [nasty]}
        write_run(
            f"runs/{number}", name="rainbow", tag=tag, final=1.0, **settings(env, epsilon=nasty, games={"a": nasty})
        )
    lines = section()
    assert lines[0].startswith(r"tag=\x1b[2J[red]a 1 1.000")
    assert "\x1b" not in "".join(lines)
    (told, _) = [line for line in lines if line.startswith("theirs: ")]
    assert told == "theirs: 200M frames; ours: 0M frames"


# --- the table ---


def test_every_source_has_a_citation_and_a_whole_protocol() -> None:
    for source in SOURCES:
        assert source.presets
        assert any(place in source.citation for place in ("arXiv ", "Nature ", "github.com/")), source
        assert source.read in ("in the paper", "in the repository", "in the data", "in a transcription")
        assert ("as in github.com/" in source.citation) == (source.read == "in a transcription"), source
        assert bool(source.spread_over) == any(score.spread is not None for score in source.scores.values())
        assert source.scores
        if set(source.scores) == {"CartPole-v1"}:
            continue  # which has no such protocol
        assert set(source.scores) <= set(BASELINES)
        protocol = source.protocol
        known = {part.name: getattr(protocol, part.name) for part in fields(protocol)}
        assert known["sticky_actions"] in (None, 0.0, 0.25)
        assert known["max_frames"] in (None, 18_000, 108_000)
        assert known["frames"] in (None, 40_000_000, 199_000_000, 200_000_000)
        assert None not in (known["frames"], known["life_loss_is_terminal"]) or source.presets == ("dqn_nips2013",)
        assert known["starts"] in (None, 0, 30, "human starts")
        assert known["epsilon"] in (None, 0.001, 0.05, "exploration as in training")
        assert (known["epsilon"] == "exploration as in training") == protocol.is_of_training


def test_every_preset_of_a_source_exists() -> None:
    named = {preset for source in SOURCES for preset in source.presets}
    assert named - {path.stem for path in (CONF / "experiment").glob("*.yaml")} == set()


def test_a_preset_has_each_score_once() -> None:
    entries = [
        (preset, source.citation, game) for source in SOURCES for preset in source.presets for game in source.scores
    ]
    assert [entry for entry, same in groupby(sorted(entries)) if len(list(same)) > 1] == []


@pytest.mark.parametrize(
    ("preset", "game", "means"),
    [
        ("dqn_nips2013", "breakout", [168]),
        ("dqn_nature2015", "space_invaders", [1976]),
        ("double_dqn", "breakout", [375.0, 418.5]),
        ("double_dqn", "seaquest", [7995]),
        ("double_dqn_tuned", "breakout", [368.9]),
        ("dueling", "seaquest", [50254.2]),
        ("prioritized", "breakout", [371.6]),
        ("prioritized_ranked", "breakout", [343.0]),
        ("c51", "breakout", [748, 612.5]),
        ("noisy", "space_invaders", [2186]),
        ("rainbow", "pong", [20.9]),
        ("qr_dqn", "space_invaders", [20972]),
        ("iqn", "breakout", [734]),
        ("munchausen_dqn", "breakout", [331]),
        ("munchausen_iqn", "breakout", [320]),
        ("dopamine_dqn", "pong", [15.9]),
        ("dopamine_rainbow", "breakout", [120.1, 122.0]),
        ("cleanrl_dqn", "breakout", [366.9]),
        ("sb3_zoo_dqn", "breakout", [358.3]),
        ("sb3_zoo_dqn", "seaquest", [2000]),
        ("pqn", "pong", []),
        ("cartpole_cleanrl", "CartPole-v1", [488.69]),
        ("cartpole_sb3_zoo", "CartPole-v1", [500.0]),
        ("cartpole_sb3_zoo", "breakout", []),
    ],
)
def test_scores_by_preset_and_game(preset: str, game: str, means: list[float]) -> None:
    assert [score.mean for _, score in published(preset, game)] == means


def test_what_is_unknown_on_either_side_is_no_difference() -> None:
    known = Protocol(0.0, True, 18_000, 30, False, 0.05, 30, "last network", 1e6)
    unknown = Protocol(None, None, None, None, None, None, None, None, None)
    assert differences(known, unknown) == differences(unknown, known) == differences(known, known) == ([], [])
    assert unknown.unknown_beside(unknown) == known.unknown_beside(unknown) == []
    assert unknown.unknown_beside(known) == [
        "sticky actions",
        "lost lives",
        "longest game",
        "starts",
        "FIRE at the start",
        "epsilon",
        "number of games",
        "best or last network",
        "frames of training",
    ]
