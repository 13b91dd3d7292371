from __future__ import annotations

from typing import Any

from made_up_runs import BREAKOUT, WriteRun

from dqn.report.runs import find_runs
from dqn.report.settings import all_keys, differing_keys, flatten, group_runs


def labels_and_seeds() -> dict[str, list[object]]:
    return {group.label: [run.seed for run in group.runs] for group in group_runs(find_runs(["runs/*"]))}


def test_flatten() -> None:
    nested = {"a": {"b": {"c": 1}, "empty": {}, "list": [1, {"d": 2}]}, "e": None}
    assert flatten(nested) == {"a.b.c": 1, "a.empty": {}, "a.list": [1, {"d": 2}], "e": None}


def test_keys_stay_with_their_section_and_its_own_keys_come_first() -> None:
    one = {"a.s.x": 1, "a.k": 2, "b.k": 3, "n": 4}
    other = {"c.k": 1, "b.l": 1, "a.s.y": 1, "a.l": 1}
    assert all_keys([one, other]) == ["n", "a.k", "a.l", "a.s.x", "a.s.y", "b.k", "b.l", "c.k"]


def test_keys_differ_by_value_and_by_absence() -> None:
    one: dict[str, Any] = {"same": 1, "equal": 1, "value": 1, "kind": 1, "null": None, "list": [1]}
    other: dict[str, Any] = {"same": 1, "equal": 1.0, "value": 2, "kind": True, "list": [1, 2], "new": 0}
    assert differing_keys([one, other]) == ["value", "kind", "null", "list", "new"]


def test_seeds_are_one_group_named_by_the_experiment(write_run: WriteRun) -> None:
    for seed in (3, 1, 2):
        write_run(f"runs/{seed}", seed=seed)
    assert labels_and_seeds() == {"cartpole": [1, 2, 3]}


def test_groups_are_named_by_what_differs(write_run: WriteRun) -> None:
    for seed in range(2):
        for period in (100, 200):
            write_run(f"runs/a{seed}{period}", seed=seed, target={"period": period}, algorithm={"kind": "dqn"})
        write_run(f"runs/b{seed}", seed=seed, target={"period": 100}, algorithm={"kind": "double_dqn"})
    assert labels_and_seeds() == {
        "dqn, period=100": [0, 1],
        "dqn, period=200": [0, 1],
        "double_dqn, period=100": [0, 1],
    }


def test_keys_whose_last_part_is_ambiguous_are_written_whole(write_run: WriteRun) -> None:
    write_run("runs/a", memory={"steps": 1}, trainer={"steps": 1})
    write_run("runs/b", memory={"steps": 2}, trainer={"steps": 2})
    assert list(labels_and_seeds()) == ["memory.steps=1, trainer.steps=1", "memory.steps=2, trainer.steps=2"]


def test_experiments_with_names_of_their_own_are_named_by_them(write_run: WriteRun) -> None:
    write_run("runs/a", name="one", optimizer={"rate": 0.1})
    write_run("runs/b", name="two", optimizer={"rate": 0.2})
    assert list(labels_and_seeds()) == ["one", "two"]


def test_where_much_differs_the_name_has_only_what_tells_apart(write_run: WriteRun) -> None:
    write_run("runs/a", optimizer={"rate": 0.1})
    write_run("runs/b", optimizer={"rate": 0.2})
    write_run("runs/c", name="breakout", env=BREAKOUT, optimizer={"rate": 0.1, "beta": 3})
    assert list(labels_and_seeds()) == ["cartpole, rate=0.1", "cartpole, rate=0.2", "breakout, rate=0.1"]


def test_a_group_without_the_differing_key_is_named_by_its_experiment(write_run: WriteRun) -> None:
    write_run("runs/a")
    write_run("runs/b", clip=1)
    assert list(labels_and_seeds()) == ["cartpole", "clip=1"]
