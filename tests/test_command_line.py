"""The words of a command line before Hydra sees them."""

from __future__ import annotations

import pytest

from dqn.command_line import check_flags, check_output_subdir, check_ranges, split
from dqn.compose import with_free_keys
from dqn.errors import UserError


@pytest.mark.parametrize(
    ("words", "flags", "overrides"),
    [
        (["seed=1", "-m", "env=pong"], ["-m"], ["seed=1", "env=pong"]),
        (["seed=1", "--cfg", "job", "env=pong"], ["--cfg", "job"], ["seed=1", "env=pong"]),
        (["seed=1", "--cfg=job", "env=pong"], ["--cfg=job"], ["seed=1", "env=pong"]),
        (["--info", "seed=1"], ["--info=all"], ["seed=1"]),
        (["--info", "defaults", "seed=1"], ["--info", "defaults"], ["seed=1"]),
        (["seed=1", "--info"], ["--info=all"], ["seed=1"]),
        (["seed=1", "-", "-m"], ["-m"], ["seed=1", "-"]),
    ],
)
def test_flags_may_stand_anywhere(words, flags, overrides):
    assert split(words) == (flags, overrides)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nope", "seed=1"], "unrecognized arguments: --nope; see --help"),
        (["--cfg"], "argument --cfg/-c: expected one argument; see --help"),
        (["--cfg", "seed=1"], "argument --cfg/-c: invalid choice: 'seed=1' .*; see --help"),
    ],
)
def test_flags_that_hydra_does_not_know(words, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        check_flags(words)


def test_hydra_writes_nothing_into_a_folder_of_ours():
    check_output_subdir(["seed=1", "hydra.output_subdir=null"])
    with pytest.raises(UserError, match=r"^hydra.output_subdir=\.hydra: must be null"):
        check_output_subdir(["seed=1", "hydra.output_subdir=.hydra"])


@pytest.mark.parametrize("group", ["env.kwargs", "evaluation.env"])
def test_groups_that_take_any_key_may_be_given_whole(group):
    words = [f"{group}.a=1", f"{group}={{a:1}}", f"{group}={{}}", "seed=1"]
    assert with_free_keys(words) == [f"++{words[0]}", f"++{words[1]}", *words[2:]]


@pytest.mark.parametrize("values", ["range(0,inf)", "range(0,nan)", "range(0,1,0)", "shuffle(range(1000000))"])
def test_ranges_without_an_end(values):
    check_ranges(["trainer.total_steps=1", "seed=range(0,3)", "seed=range(3,0,-1)", "seed=range(1", "a=[1,2]"])
    with pytest.raises(UserError) as caught:
        check_ranges(["seed=1", f"seed={values}"])
    assert str(caught.value) == f"seed={values}: has no end, or more than 100,000 values"
