"""Search spaces: what they suggest, under which conditions, and what is refused."""

from __future__ import annotations

import itertools

import optuna
import pytest
import yaml

from dqn.compose import CONF, compose_config
from dqn.config import Config
from dqn.errors import UserError
from dqn.sweep.arguments import read_arguments
from dqn.sweep.parameters import override_text
from dqn.sweep.space import Space, parse_parameter
from dqn.validation import validate

SPACE = """
optimizer.learning_rate: {type: float, low: 1e-4, high: 1e-2, log: true}
trainer.batch_size: {type: int, low: 32, high: 128, step: 32}
target.rate: {type: float, low: 0.001, high: 0.05, when: {target: polyak}}
target.period_steps: {type: int, low: 50, high: 2000, log: true, when: {target: [hard]}}
target: {type: categorical, choices: [hard, polyak]}
network.hidden_sizes: {type: categorical, choices: [[64], [120, 84]]}
"""


def space_of(text, fixed=None):
    # OmegaConf's reader knows 1e-4 as a number, PyYAML's does not.
    from omegaconf import OmegaConf

    entries = OmegaConf.to_container(OmegaConf.create(text))
    return Space({key: parse_parameter(key, entry) for key, entry in entries.items()}, fixed)


def suggestions(space, count=60):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    return [space.suggest(study.ask()) for _ in range(count)]


def test_every_kind_of_parameter_stays_in_its_range():
    suggested = suggestions(space_of(SPACE))
    rates = [values["optimizer.learning_rate"] for values in suggested]
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert 20 < sum(rate < 1e-3 for rate in rates) < 40  # half of a logarithmic range of two decades
    assert {values["trainer.batch_size"] for values in suggested} == {32, 64, 96, 128}
    assert {values["target"] for values in suggested} == {"hard", "polyak"}
    assert {values["network.hidden_sizes"] for values in suggested} == {"[64]", "[120,84]"}


def test_a_condition_decides_whether_a_parameter_is_chosen():
    for values in suggestions(space_of(SPACE)):
        assert ("target.rate" in values) == (values["target"] == "polyak")
        assert ("target.period_steps" in values) == (values["target"] == "hard")


def test_conditions_of_conditions_hold_together():
    space = space_of("""
        a: {type: categorical, choices: [1, 2]}
        b: {type: categorical, choices: [x, y], when: {a: 2}}
        c: {type: int, low: 0, high: 3, when: {b: y}}
    """)
    assert {tuple(values) for values in suggestions(space)} == {("a",), ("a", "b"), ("a", "b", "c")}


def test_a_condition_may_ask_for_a_list():
    words = """
        network.hidden_sizes: {type: categorical, choices: [[64, 64], [120, 84]]}
        optimizer.learning_rate: {type: float, low: 1e-4, high: 1e-3, when: {network.hidden_sizes: [[64, 64]]}}
    """
    space = space_of(words)
    for values in [*suggestions(space), *space.probes()]:
        assert ("optimizer.learning_rate" in values) == (values["network.hidden_sizes"] == "[64,64]")
        assert space.overrides(values)[0] == f"network.hidden_sizes={values['network.hidden_sizes']}"
    assert list(space_of(words, {"network.hidden_sizes": [64, 64]}).parameters) == ["optimizer.learning_rate"]
    assert not space_of(words, {"network.hidden_sizes": [120, 84]}).parameters


def test_a_fixed_value_is_not_searched_and_decides_conditions():
    polyak = space_of(SPACE, fixed={"target": "polyak", "trainer.batch_size": 32})
    for values in suggestions(polyak, 10):
        assert set(values) == {"optimizer.learning_rate", "target.rate", "network.hidden_sizes"}


def test_overrides_set_just_these_values():
    """Hydra composes from the words what the space meant, whatever their type."""
    space = space_of(SPACE)
    for values in suggestions(space, 6):
        config = compose_config(["experiment=cartpole", *space.overrides(values)])
        assert config["optimizer"]["learning_rate"] == values["optimizer.learning_rate"]
        assert config["trainer"]["batch_size"] == values["trainer.batch_size"]
        assert config["network"]["hidden_sizes"] == yaml.safe_load(values["network.hidden_sizes"])
        assert config["target"]["kind"] == values["target"]
        key = "rate" if values["target"] == "polyak" else "period_steps"
        assert config["target"] == {"kind": values["target"], key: values[f"target.{key}"]}


@pytest.mark.parametrize(
    "value", ["hard", "two words", "null", "10", "it's", "a,b", "", None, True, 1e-8, 3, [1, [2, "x y"]], {"a": [1]}]
)
def test_a_value_survives_the_command_line(value):
    config = compose_config([f"env.kwargs.x={override_text(value)}"])
    assert config["env"]["kwargs"]["x"] == value


def test_grid_points_are_each_combination_once():
    space = space_of("""
        a: {type: categorical, choices: [p, q]}
        b: {type: int, low: 1, high: 5, step: 2, when: {a: p}}
        c: {type: float, low: 0.1, high: 0.3, step: 0.1}
    """)
    points = {tuple(sorted(point.items())) for point in space.points()}
    with_b = {(("a", "p"), ("b", b), ("c", c)) for b, c in itertools.product([1, 3, 5], [0.1, 0.2, 0.3])}
    assert points == with_b | {(("a", "q"), ("c", c)) for c in [0.1, 0.2, 0.3]}
    assert len(space.points()) == len(points)


def test_probes_reach_every_end_and_choice():
    space = space_of(SPACE)
    seen = {(key, value) for values in space.probes() for key, value in values.items()}
    assert seen >= {
        ("optimizer.learning_rate", 1e-4),
        ("optimizer.learning_rate", 1e-2),
        ("trainer.batch_size", 128),
        ("target.rate", 0.001),
        ("target.rate", 0.05),
        ("target.period_steps", 2000),
        ("network.hidden_sizes", "[120,84]"),
    }
    for values in space.probes():
        assert ("target.rate" in values) == (values["target"] == "polyak")


MISTAKES = {
    "no group": ("a: 3", "sweep.space.a=3: must be settings"),
    "no type": ("a: {low: 1}", "sweep.space.a.type is missing: choose one of float, int, categorical"),
    "unknown type": ("a: {type: flaot, low: 1, high: 2}", "sweep.space.a.type=flaot: did you mean float?"),
    "unknown key": ("a: {type: int, lo: 1, high: 2}", "sweep.space.a.lo=1: no such key; did you mean low?"),
    "missing end": ("a: {type: int, low: 1}", "sweep.space.a.high is missing"),
    "wrong type": ("a: {type: int, low: 1, high: x}", "sweep.space.a.high=x: must be a whole number"),
    "empty range": ("a: {type: int, low: 2, high: 1}", "sweep.space.a.high=1: must be above low (2)"),
    "log of zero": ("a: {type: float, low: 0, high: 1, log: true}", "sweep.space.a.low=0.0: a logarithmic range"),
    "log with steps": ("a: {type: int, low: 1, high: 9, log: true, step: 2}", "sweep.space.a.step=2: a logarithmic"),
    "no choice": ("a: {type: categorical, choices: []}", "sweep.space.a.choices=[]: "),
    "a choice twice": ("a: {type: categorical, choices: [x, x]}", "sweep.space.a.choices=[x, x]: has x twice"),
    "unknown condition": (
        "a: {type: int, low: 1, high: 2, when: {b: 1}}",
        "sweep.space.a.when.b=[1]: no such parameter",
    ),
    "condition on a number": (
        "{b: {type: int, low: 0, high: 1}, a: {type: int, low: 1, high: 2, when: {b: 1}}}",
        "sweep.space.a.when.b=[1]: can depend on a categorical parameter, b is none",
    ),
    "condition on no choice": (
        "{b: {type: categorical, choices: [x]}, a: {type: int, low: 1, high: 2, when: {b: y}}}",
        "sweep.space.a.when.b=y: is no choice of b: [x]",
    ),
    "circle": (
        "{a: {type: categorical, choices: [x], when: {b: x}}, b: {type: categorical, choices: [x], when: {a: x}}}",
        "sweep.space.a.when=b: depends on itself",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_space_is_refused_by_key(mistake):
    text, message = MISTAKES[mistake]
    with pytest.raises(UserError) as error:
        space_of(text)
    assert str(error.value).startswith(message)


def arguments(*words, space=None):
    shared, searched = read_arguments(words, space or {}, None)
    return shared, {
        key: {name: value for name, value in entry.items() if value not in (None, False)}
        for key, entry in searched.describe().items()
    }


def test_hydras_sweep_syntax_adds_to_the_space():
    shared, space = arguments(
        "env=cartpole",
        "a.x=interval(1e-4,1e-2)",
        "a.y=tag(log, interval(1, 100))",
        "a.z=int(interval(2,9))",
        "b=choice(1,'two words',[3,4])",
        "c=range(1,10,2)",
        "d=range(1.0,2.0,0.25)",
        "e=p,q",
        "trainer.total_steps=100",
    )
    assert shared == ["env=cartpole", "trainer.total_steps=100"]
    assert space == {
        "a.x": {"type": "float", "low": 1e-4, "high": 1e-2},
        "a.y": {"type": "float", "low": 1.0, "high": 100.0, "log": True},
        "a.z": {"type": "int", "low": 2, "high": 9, "step": 1},
        "b": {"type": "categorical", "choices": [1, "two words", [3, 4]]},
        "c": {"type": "int", "low": 1, "high": 9, "step": 2},
        "d": {"type": "float", "low": 1.0, "high": 1.75, "step": 0.25},
        "e": {"type": "categorical", "choices": ["p", "q"]},
    }


def test_the_command_line_counts_more_than_the_file():
    files = {"a": {"type": "int", "low": 1, "high": 2}, "b": {"type": "int", "low": 1, "high": 2}}
    shared, space = arguments("a=interval(5,6)", "b=3", space=files)
    assert shared == ["b=3"]
    assert space == {"a": {"type": "float", "low": 5.0, "high": 6.0}}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed=1", "a=1,2"], "seed=1: hydra.sweeper.first_seed"),
        (["seed=1,2"], "seed=...: hydra.sweeper.first_seed"),
        (["a=tag(lgo, interval(1,2))"], "a=tag(lgo, interval(1,2)): the only tag is log"),
        (["a=interval(nan,1)"], "sweep.space.a.low=nan: must be a finite number"),
        (["a=1"], "sweep.space={}: nothing to search"),
    ],
)
def test_words_that_no_sweep_can_use_are_refused(words, message):
    with pytest.raises(UserError) as error:
        arguments(*words)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "sweep").glob("*.yaml") if path.stem != "none"))
def test_ready_spaces_fit_their_presets(name, make_search):
    """The constructor composes and validates a config for each end of each range."""
    search, _ = make_search(f"sweep={name}")
    assert validate(Config, compose_config([f"sweep={name}"])).name == name
    assert len(search._space) >= 5


def test_a_key_that_no_config_has_is_refused(make_search):
    with pytest.raises(
        UserError, match=r"optimizer\.lerning_rate=.*: no such key; did you mean optimizer.learning_rate"
    ):
        make_search("optimizer.lerning_rate=interval(1e-4,1e-3)")


def test_an_end_that_no_config_takes_is_refused(make_search):
    with pytest.raises(UserError, match=r"algorithm\.discount=1\.5: must be less than or equal to 1"):
        make_search("algorithm.discount=interval(0.9,1.5)")
