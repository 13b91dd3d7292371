"""A run that is made again is compared number by number."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from dqn import checkpoint, experiment, run
from dqn.checkpoint import Checkpoints, checkpoints
from dqn.compose import compose_config, with_values
from dqn.errors import UserError
from dqn.verification import VerifyOptions, verify_run

SHORT = (
    "experiment=cartpole",
    "logger=none",
    "trainer.compile=never",
    "trainer.total_steps=800",
    "trainer.log_every_steps=80",
    "memory.warmup_steps=100",
    "evaluation.every_steps=240",
    "evaluation.episodes=2",
    "evaluation.num_envs=2",
    "evaluation.final_episodes=2",
    "evaluation.video=false",
    "checkpoint.every_steps=400",
    "export.formats=[safetensors]",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    run.train([compose_config(SHORT)], [folder])
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def verified(folder: Path, capsys: pytest.CaptureFixture[str], steps: int | None = None) -> tuple[int, str]:
    status = verify_run(VerifyOptions(str(folder), steps))
    return status, capsys.readouterr().out.strip()


def change_record(folder: Path, number: int, **values: object) -> dict:
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines()
    record = json.loads(lines[number])
    lines[number] = json.dumps({**record, **values})
    path.write_text("\n".join(lines) + "\n")
    return record


def test_a_run_reproduces(folder, capsys):
    count = len((folder / "metrics.jsonl").read_text().splitlines())
    status, said = verified(folder, capsys)
    assert status == 0
    assert said == f"{folder} reproduces: {count} records and 2 checkpoints up to step 800 are the same"


def test_its_first_steps_alone(folder, capsys):
    change_record(folder, -1, reason="other")
    status, said = verified(folder, capsys, steps=450)
    assert status == 0
    assert "and 1 checkpoint up to step 4" in said


@pytest.mark.parametrize("kind", ["episode", "learning", "evaluation"])
def test_the_first_difference_is_named(folder, capsys, kind):
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    numbers = [number for number, record in enumerate(records) if record["kind"] == kind]
    field = {"episode": "episode_length", "learning": "epsilon", "evaluation": "mean_return"}[kind]
    for number in numbers[-1], numbers[1]:
        record = change_record(folder, number, **{field: -1})
    status, said = verified(folder, capsys)
    assert status == 1
    expected = f"it first differs at step {record['step']:,}: {kind} {field} was -1, now it is {record[field]}"
    assert said == f"{folder} does not reproduce: {expected}"


def test_a_weight_that_differs_is_named(folder, capsys):
    place = checkpoints(folder / "checkpoints")[0]
    saved = Checkpoints(folder / "checkpoints")
    state = checkpoint.load_state(place)
    parameters = state["trainer"]["learner"]["parameters"]
    then = parameters[0, 7].item()
    parameters[0, 7] = torch.nextafter(parameters[0, 7], torch.tensor(9.0))
    saved.save(400, state, 2)
    status, said = verified(folder, capsys)
    assert status == 1
    values = f"was {parameters[0, 7].item()}, now it is {then}"
    assert f"it first differs at step 400: learner/parameters in step-000000000400 {values}" in said


def test_another_version_and_another_machine_are_noted(folder, capsys):
    path = folder / "provenance.json"
    record = json.loads(path.read_text())
    record["packages"]["torch"] = "1.0"
    record["hardware"]["processor"] = "an abacus"
    path.write_text(json.dumps(record))
    assert verify_run(VerifyOptions(str(folder), 100)) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert notes[0].startswith("note: processor was an abacus, now it is ")
    assert notes[1].startswith("note: other versions: torch 1.0 -> ")


def test_a_member_of_a_stack_is_made_again_among_the_others(tmp_path, capsys):
    names = ["0", "1", "2"]
    values = [compose_config([*SHORT, f"seed={name}", "trainer.total_steps=500"]) for name in names]
    run.train(values, [tmp_path / name for name in names])
    assert verified(tmp_path / "1", capsys)[0] == 0
    shutil.rmtree(tmp_path / "2")
    verify_run(VerifyOptions(str(tmp_path / "1"), 100))
    assert "was trained in a stack of 3, whose other runs are not beside it" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changes",
    [{"trainer.log_every_steps": 70}, {"evaluation.every_steps": 100, "evaluation.stop.mean_return": 1.0}],
    ids=["log", "evaluation"],
)
def test_records_that_changed_as_the_run_was_resumed_are_left_out(folder, capsys, changes):
    values = with_values(compose_config(SHORT), {"trainer.total_steps": 1200, **changes})
    run.resume([values], [folder])
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    episodes = [record for record in records if record["kind"] == "episode"]
    capsys.readouterr()
    status = verify_run(VerifyOptions(str(folder)))
    out, err = capsys.readouterr()
    assert status == 0, out
    assert out.startswith(f"{folder} reproduces: {len(episodes)} records and ")
    keys = ", ".join(sorted([*changes, "trainer.total_steps"]))
    assert f"note: {keys} changed as the run was resumed; only episodes and learning are compared" in err
    number = records.index(episodes[-1])
    change_record(folder, number, episode_return=-1.0)
    status, said = verified(folder, capsys)
    assert status == 1
    assert f"at step {episodes[-1]['step']:,}: episode episode_return was -1.0" in said


def test_the_last_checkpoint_of_a_run_that_was_killed_is_compared(folder, capsys):
    """Though there is no record behind it."""
    place = checkpoints(folder / "checkpoints")[-1]
    records = [line for line in (folder / "metrics.jsonl").read_text().splitlines() if '"kind": "end"' not in line]
    (folder / "metrics.jsonl").write_text("\n".join(records) + "\n")
    (folder / "summary.json").unlink()
    assert verified(folder, capsys)[1].endswith(f"{len(records)} records and 2 checkpoints up to step 800 are the same")
    state = checkpoint.load_state(place)
    state["trainer"]["learner"]["parameters"] += 1
    Checkpoints(folder / "checkpoints").save(800, state, 2)
    status, said = verified(folder, capsys)
    assert status == 1
    assert "it first differs at step 800: learner/parameters in step-000000000800" in said


def test_a_sibling_that_went_on_does_not_matter(tmp_path, capsys):
    values = [compose_config([*SHORT, f"seed={seed}", f"optimizer.learning_rate=1e-{seed + 2}"]) for seed in range(2)]
    run.train(values, [tmp_path / "0", tmp_path / "1"])
    longer = with_values(values[0], {"trainer.total_steps": 1000, "evaluation.every_steps": 100})
    run.resume([longer], [tmp_path / "0"])
    capsys.readouterr()
    assert verified(tmp_path / "1", capsys)[0] == 0


def test_a_longer_run_goes_on_uncompiled_as_it_began(tmp_path, capsys, monkeypatch):
    """Though one that was to be as long from the beginning would have been compiled."""
    monkeypatch.setattr(experiment, "_updates_worth_compiling", lambda *_: 300)
    monkeypatch.setattr(experiment, "can_compile", lambda: pytest.fail("it is to be compiled"))
    values = compose_config([*SHORT, "trainer.compile=auto"])
    run.train([values], [tmp_path / "run"])
    run.resume([with_values(values, {"trainer.total_steps": 1600})], [tmp_path / "run"])
    capsys.readouterr()
    assert verified(tmp_path / "run", capsys)[0] == 0


def test_what_is_compiled_depends_on_the_device_where_that_is_another():
    values = compose_config(SHORT) | {"trainer": compose_config(SHORT)["trainer"] | {"compile": "auto"}}
    for device, compiled, expected in (("cpu", False, "never"), ("cpu", True, "always"), ("cuda", True, None)):
        state = {"population": {"threads": 1, "device": device, "compiled": compiled}}
        assert run._rounding(state, values).get("trainer.compile") == expected


def test_only_what_was_before_new_episodes_is_made_again(folder, capsys):
    values = with_values(compose_config(SHORT), {"trainer.total_steps": 1200, "checkpoint.memory": False})
    run.resume([values], [folder])
    capsys.readouterr()
    assert verify_run(VerifyOptions(str(folder))) == 0
    out, err = capsys.readouterr()
    assert "note: new episodes began at step 800, as the run was resumed: not made again" in err
    assert "up to step 7" in out or "up to step 800" in out


def test_what_a_record_says_does_not_command_the_terminal(folder, capsys):
    change_record(folder, 0, **{"\x1b]0;x\x07": "\n\x1b[2J"})
    assert verify_run(VerifyOptions(str(folder))) == 1
    assert r"\x1b]0;x\x07 was \n\x1b[2J, now it is None" in capsys.readouterr().out


def test_a_last_line_that_was_cut_off_is_left_out(folder, capsys):
    path = folder / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:20] + b"\xc3")
    status, said = verified(folder, capsys)
    assert status == 0, said
    assert f"reproduces: {len(lines) - 1} records" in said


@pytest.mark.parametrize(
    "line",
    ["[]", "null", "7", "{}", '{"kind": "episode"}', '{"kind": [], "step": 1}', '{"kind": "end", "step": true}', "x"],
)
def test_a_line_that_is_no_record_is_one_line(folder, line):
    path = folder / "metrics.jsonl"
    path.write_text("\n".join([*path.read_text().splitlines()[:2], line]) + "\n")
    with pytest.raises(UserError) as error:
        verify_run(VerifyOptions(str(folder)))
    problem = "its metrics.jsonl cannot be read (line 3 is no record with a kind and a step)"
    assert str(error.value) == f"run={folder}: {problem}"


def test_an_end_without_a_status_is_a_difference(folder, capsys):
    (folder / "metrics.jsonl").write_text('{"kind": "end", "step": 10}\n')
    status, said = verified(folder, capsys)
    assert status == 1, said


def test_what_cannot_be_compared(folder, tmp_path):
    with pytest.raises(UserError, match="there is no run in this place"):
        verify_run(VerifyOptions(str(tmp_path / "nothing")))
    (folder / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="has recorded nothing yet"):
        verify_run(VerifyOptions(str(folder)))


def test_so_few_steps_that_nothing_was_recorded(folder):
    with pytest.raises(UserError, match="has recorded nothing up to step 1 that could be compared"):
        verify_run(VerifyOptions(str(folder), 1))
