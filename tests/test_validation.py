from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from dqn.compose import compose_config
from dqn.config import Config, TabularConfig
from dqn.errors import UserError
from dqn.validation import Schema, as_checked, first_error, validate, yaml_text

OPTIONS = "env=cartpole network=mlp exploration=epsilon_greedy exploration/schedule=linear target=hard "
OPTIONS += "optimizer=adam algorithm=dqn algorithm/loss=huber logger=none experiment=cartpole"
CONFIG = compose_config([*OPTIONS.split(), "+env.kwargs.a=true"])


def changed(**changes: object) -> dict[str, Any]:
    """CONFIG with a__b=value in place of its a.b; the value `...` takes the entry away."""
    config = copy.deepcopy(CONFIG)
    for path, value in changes.items():
        *parents, name = path.split("__")
        place = config
        for parent in parents:
            place = place[parent]
        if value is ...:
            del place[name]
        else:
            place[name] = value
    return config


def message(**changes: object) -> str:
    with pytest.raises(UserError) as caught:
        validate(Config, changed(**changes))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_valid_config_becomes_plain_dataclasses() -> None:
    config = validate(Config, CONFIG)
    plain = {**CONFIG, "logger": {"wandb": None, "tensorboard": None}}
    assert TypeAdapter(Config).dump_python(config) == plain


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        # range
        ("trainer__batch_size", 0, "trainer.batch_size=0: must be greater than or equal to 1"),
        ("env__max_steps", 0, "env.max_steps=0: must be greater than or equal to 1, or null"),
        ("algorithm__discount", 1.5, "algorithm.discount=1.5: must be less than or equal to 1"),
        ("target__period_steps", 0, "target.period_steps=0: must be greater than or equal to 1"),
        ("optimizer__learning_rate", float("inf"), "optimizer.learning_rate=inf: must be a finite number"),
        (
            "checkpoint__keep",
            10**16,
            "checkpoint.keep=10000000000000000: must be less than or equal to 1000000000000000",
        ),
        ("trainer__updates_per_learn", 1e6, "trainer.updates_per_learn=1000000.0: must be less than or equal to 10000"),
        # type
        ("env__max_steps", "abc", "env.max_steps=abc: must be a whole number or null"),
        ("env__max_steps", 1.5, "env.max_steps=1.5: must be a whole number or null"),
        ("trainer__batch_size", None, "trainer.batch_size=null: must be a whole number"),
        ("trainer__batch_size", True, "trainer.batch_size=true: must be a whole number"),
        ("network__hidden_sizes", [8, True], "network.hidden_sizes[1]=true: must be a whole number"),
        ("exploration__schedule__start", True, "exploration.schedule.start=true: must be a number"),
        ("trainer__terminal_reward", "low", "trainer.terminal_reward=low: must be a number or null"),
        ("evaluation__video", "maybe", "evaluation.video=maybe: must be true or false"),
        ("env__id", 3, "env.id=3: must be text"),
        ("network__hidden_sizes", 3, "network.hidden_sizes=3: must be a list of whole numbers"),
        ("network__hidden_sizes", [8, "a"], "network.hidden_sizes[1]=a: must be a whole number"),
        ("env__kwargs", 3, "env.kwargs=3: must be a group of settings"),
        ("checkpoint", 3, "checkpoint=3: must be a group of settings"),
        ("target", 3, "target=3: must be a group of settings"),
        # named values
        ("network__activation", "rleu", "network.activation=rleu: did you mean relu?"),
        ("trainer__precision", 16, "trainer.precision=16: choose one of bfloat16, float32"),
        ("export__formats", ["onnx", "h6"], "export.formats[1]=h6: did you mean h5?"),
        ("optimizer__kind", "adm", "optimizer.kind=adm: did you mean adam?"),
        ("exploration__schedule__kind", "liner", "exploration.schedule.kind=liner: did you mean linear?"),
        ("memory__device", "gpu", r"memory.device=gpu: must match pattern '^(auto|cpu|cuda(:\d+)?)$'"),
        ("name", "a/b", "name=a/b: must match pattern '^[A-Za-z0-9_.-]+$'"),
        ("name", "..", "name=..: must be more than dots, as it names a folder"),
        # unknown keys
        ("trainer__bach_size", 3, "trainer.bach_size=3: no such key; did you mean batch_size?"),
        ("tainer", {"a": 1}, "tainer={a: 1}: no such key; did you mean trainer?"),
        (
            "target__period_step",
            1,
            "target.period_step=1: no such key where target.kind=hard; did you mean period_steps?",
        ),
        (
            "algorithm__loss__treshold",
            1,
            "algorithm.loss.treshold=1: no such key where algorithm.loss.kind=huber; did you mean threshold?",
        ),
        # missing keys
        ("trainer__batch_size", ..., "trainer.batch_size is missing: a whole number"),
        ("trainer__threads", ..., "trainer.threads is missing: a whole number or null"),
        ("exploration__schedule__start", ..., "exploration.schedule.start is missing: a number"),
        ("algorithm__loss__kind", ..., "algorithm.loss.kind is missing: choose one of custom, huber, mse"),
        ("export__formats", ..., "export.formats is missing: a list of safetensors, onnx, pt2, h5"),
    ],
)
def test_one_fault_is_named_with_its_key_value_and_what_would_be_right(path: str, value: object, expected: str) -> None:
    assert message(**{path: value}) == expected


def test_a_typo_is_named_rather_than_the_key_that_is_therefore_missing() -> None:
    text = message(trainer__batch_size=..., trainer__bach_size=32)
    assert text == "trainer.bach_size=32: no such key; did you mean batch_size?"


def test_a_wrong_value_is_named_before_a_missing_key() -> None:
    assert message(trainer__batch_size=..., checkpoint__keep=0).startswith("checkpoint.keep=0")


def test_long_values_are_shortened() -> None:
    assert message(trainer__batch_size=list(range(100))) == (
        "trainer.batch_size=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16...: must be a whole number"
    )


def test_whole_floats_and_numbers_as_text_are_accepted_and_booleans_stay_what_they_are() -> None:
    config = validate(Config, changed(trainer__total_steps=1e6, trainer__batch_size="64"))
    assert (config.trainer.total_steps, config.trainer.batch_size) == (1_000_000, 64)
    assert isinstance(config.trainer.total_steps, int)
    assert config.env.kwargs == {"a": True}  # type: ignore[union-attr]


def test_the_data_in_the_types_of_what_was_checked() -> None:
    data = changed(trainer__total_steps=1e6, trainer__batch_size="64", checkpoint__memory="false")
    checked = as_checked(data, validate(Config, data))
    assert checked == changed(trainer__total_steps=1_000_000, trainer__batch_size=64, checkpoint__memory=False)
    assert isinstance(checked["trainer"]["total_steps"], int)
    assert as_checked(CONFIG, validate(Config, CONFIG)) == CONFIG


def test_first_error_takes_the_error_of_any_class() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(TabularConfig).validate_python({"kind": "tabular", "initialization": "zero"})
    assert str(first_error(caught.value, TabularConfig)) == "initialization=zero: did you mean zeros?"


def test_a_prefix_stands_before_every_key() -> None:
    def message_of(data: dict[str, Any]) -> str:
        with pytest.raises(UserError) as caught:
            validate(TabularConfig, data, prefix="evaluation.env")
        return str(caught.value)

    whole = {"kind": "tabular", "initialization": "zeros"}
    assert message_of({**whole, "king": 1}) == "evaluation.env.king=1: no such key; did you mean kind?"
    assert message_of({**whole, "initialization": 3}).startswith("evaluation.env.initialization=3: choose one of")
    assert message_of({"kind": "tabular"}).startswith("evaluation.env.initialization is missing: ")


def test_schema_says_what_may_stand_at_a_place() -> None:
    key, schema = Schema.of(Config).locate(("exploration", "epsilon_greedy", "schedule", "piecewise", "steps", 0))
    assert (key, schema.noun) == ("exploration.schedule.steps[0]", "a whole number")
    assert Schema.of(Config).child("trainer").child("total_steps").nullable
    assert Schema.of(Config).child("trainer").child("precision").choices == ["float32", "bfloat16"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (1e-8, "1e-08"),
        ("", '""'),
        ([1, None], "[1, null]"),
        ({"a": [False]}, "{a: [false]}"),
    ],
)
def test_yaml_text(value: object, text: str) -> None:
    assert yaml_text(value) == text
