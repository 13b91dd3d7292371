"""What others raise becomes one line that names the key."""

from __future__ import annotations

import pytest
from omegaconf.errors import InterpolationKeyError

from dqn.complaints import is_of_hydra
from dqn.compose import compose_config, explain
from dqn.errors import TrainingError, UserError

LONG_NUMBER = "9" * 5000  # more digits than Python reads


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["algorithm=null"],
            "algorithm=null: no such option; "
            "choose one of c51, double_dqn, dqn, fqf, iqn, munchausen_dqn, munchausen_iqn, pqn, qr_dqn",
        ),
        (["~env=3"], "env=3: no such option; choose one of atari, breakout, cartpole, gridworld, gymnasium, pong"),
        (["logger=[{}]"], "logger=[{}]: no such option; choose one of none, tensorboard, wandb"),
        (["++logger=none"], "logger=none: force-add of config groups is not supported: '++logger=none'"),
        (["+checkpoint=default"], "checkpoint=default: checkpoint appears more than once in the final defaults list"),
        (["seed=${nope}"], "seed=${nope}: Interpolation key 'nope' not found"),
        (["seed=${seed}"], "seed=${seed}: Recursive interpolation detected"),
        (["trainer={bach_size: 3}"], "trainer.bach_size=: no such key; did you mean trainer.batch_size?"),
        (["=0"], "cannot read the override '=0'; overrides look like key=value"),
        (["@seed=1"], "cannot read the override '@seed=1'; overrides look like key=value"),
        (["experiment=cartpole", ""], "cannot read the override ''; overrides look like key=value"),
        (
            ["target=" + LONG_NUMBER],
            f"cannot read the override 'target={'9' * 190}...'; overrides look like key=value",
        ),
        (
            ["seed=1,2," + "3" * 100],
            f"seed=1,2,{'3' * 100}: several values are for a sweep, which needs -m; a list is written "
            f"[1,2,{'3' * 53}...]",
        ),
    ],
)
def test_complaints_about_a_command_line(words, message):
    with pytest.raises(Exception) as caught:  # noqa: PT011  # Hydra raises whatever it likes
        compose_config(words)
    assert str(explain(caught.value, words)) == message


def test_a_syntax_error_within_a_value_names_the_key():
    words = ["optimizer='${${'"]
    with pytest.raises(UserError, match=r"^optimizer='\$\{\$\{': no viable alternative at input"):
        compose_config(words)


def test_a_key_that_is_given_twice_is_named_where_the_first_cannot_be_read():
    error = InterpolationKeyError("Interpolation key 'nope' not found")
    for words in (["seed=${nope}", "seed=1"], ["seed=1", "seed=${nope}"]):
        assert str(explain(error, words)) == "seed=${nope}: Interpolation key 'nope' not found"


def test_bugs_of_ours_are_not_explained():
    with pytest.raises(TypeError) as caught:
        compose_config(3)
    assert not is_of_hydra(caught.value)
    assert explain(caught.value, []) is None
    assert explain(ValueError("raised here"), []) is None


def test_errors_that_are_clear_already_stay_as_they_are():
    for error in (UserError("seed", -1, "must be more"), TrainingError("the disk is full")):
        assert explain(error, []) is error
