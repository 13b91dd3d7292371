"""Compiled training is the same training, and tracing leaves no trace."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock

from dqn import compilation
from dqn.compilation import Compiled, can_compile, prepare_all, wants_compilation
from dqn.envs.base import EnvironmentSpec
from dqn.experiment import build_trainer
from dqn.memory.prioritized import Priorities, PrioritizedMemory
from dqn.memory.stream import Experience
from dqn.memory.uniform import UniformMemory
from dqn.trainer import Trainer

needs_compiler = pytest.mark.skipif(not can_compile(), reason="there is no C++ compiler")

SMALL = (
    "experiment=cartpole",
    "env.backend=gymnasium",
    "logger=none",
    "algorithm=dqn",
    "network.hidden_sizes=[16]",
    "memory.capacity_steps=200",
    "memory.warmup_steps=40",
    "trainer.learn_every_steps=2",
    "trainer.updates_per_learn=1",
    "trainer.batch_size=8",
    "trainer.total_steps=400",
    "env.num_envs=2",
    "evaluation.every_steps=null",
    "evaluation.stop.mean_return=null",
    "checkpoint.every_steps=null",
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for this file: compiling takes seconds."""
    return tmp_path_factory.mktemp("cache")


def train(config) -> tuple[Trainer, list]:
    trainer = build_trainer([config])
    events = list(trainer.run())
    trainer.close()
    return trainer, events


PARTS = {
    "iqn, noise, priorities": ("algorithm=iqn", "network.noise_std=0.5", "memory=prioritized", "env.backend=torch"),
}


@needs_compiler
@pytest.mark.long
@pytest.mark.parametrize("parts", ["dqn", *PARTS])
def test_compiled_and_uncompiled_runs_learn_the_same_and_repeat_themselves(
    parts, make_config, cache, monkeypatch, capfd
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    small = [*SMALL, *PARTS.get(parts, ())]
    plain, _ = train(make_config(*small, "trainer.compile=never"))
    first, first_events = train(make_config(*small, "trainer.compile=always"))
    second, second_events = train(make_config(*small, "trainer.compile=always"))
    assert first_events == second_events
    assert "uncompiled" not in capfd.readouterr().err
    assert plain.updates[0] == first.updates[0] > 150
    states = [trainer.state_dict() for trainer in (plain, first, second)]
    for name, tensor in states[0]["learner"].items():
        torch.testing.assert_close(states[1]["learner"][name], tensor, atol=1e-5, rtol=1e-4)
        assert torch.equal(states[1]["learner"][name], states[2]["learner"][name])
    for name, tensor in states[0]["memory"].items():
        # Priorities are errors of networks that differ so much.
        torch.testing.assert_close(states[1]["memory"][name], tensor, atol=1e-5, rtol=1e-4)


@needs_compiler
@pytest.mark.long
def test_a_population_whose_environments_are_tensors_is_compiled_too(make_config, cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    words = [*SMALL, "env.backend=torch", "trainer.total_steps=120"]
    configs = {
        kind: [make_config(*words, f"trainer.compile={kind}", f"seed={s}") for s in (1, 2)]
        for kind in ("never", "always")
    }
    parameters = {}
    for kind, of_members in configs.items():
        trainer = build_trainer(of_members)
        list(trainer.run())
        trainer.close()
        parameters[kind] = trainer.parts.learner.parameters
    torch.testing.assert_close(parameters["always"], parameters["never"], atol=1e-5, rtol=1e-4)


@needs_compiler
def test_what_was_compiled_is_kept_and_made_anew_where_it_is_damaged(monkeypatch, tmp_path, capfd):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    total = torch.zeros(3)

    def add(values: torch.Tensor) -> torch.Tensor:
        total.add_(values)
        return total * 2

    def call_anew(times: int) -> None:
        result = Compiled(add, "adding")(torch.arange(3.0))
        assert torch.equal(total, times * torch.arange(3.0))
        assert torch.equal(result, 2 * total)

    call_anew(1)
    call_anew(2)
    assert capfd.readouterr().err.count("compiling the training step (adding)") == 1
    (kept,) = tmp_path.rglob("*.pt2")
    whole = kept.read_bytes()
    monkeypatch.setattr(compilation, "_compile", lambda graph, inputs, path: path.write_bytes(whole))
    for bytes_left, times in ((0, 3), (20_000, 5)):
        kept.write_bytes(whole[:bytes_left])
        call_anew(times)
        call_anew(times + 1)
    printed = capfd.readouterr().err
    assert printed.count("compiling the training step (adding)") == 2
    assert "uncompiled" not in printed


def test_what_another_process_is_compiling_is_waited_for_last(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made: list[Path] = []
    held, over = Event(), Event()

    def compile_(graph: object, inputs: object, path: Path) -> None:
        made.append(path)
        zipfile.ZipFile(path, "w").close()
        over.set()

    monkeypatch.setattr(compilation, "_compile", compile_)
    package = SimpleNamespace(loader=SimpleNamespace(boxed_run=lambda inputs: []))
    monkeypatch.setattr("torch._inductor.aoti_load_package", lambda path: package)

    def functions() -> list[tuple[Compiled, list[torch.Tensor]]]:
        doubling, tripling = (Compiled(lambda x, n=n: x * n, f"times {n}") for n in (2, 3))
        return [(doubling, [torch.ones(2)]), (tripling, [torch.ones(2)])]

    prepare_all(functions())
    first, second = made
    for path in made:
        path.unlink()

    def hold() -> None:
        with FileLock(first.with_suffix(".lock")):
            held.set()
            over.wait()

    over.clear()
    Thread(target=hold, daemon=True).start()
    held.wait()
    prepare_all(functions())
    assert made[2:] == [second, first]


@needs_compiler
@pytest.mark.long
@pytest.mark.parametrize("has_priorities", [False, True])
def test_storing_copies_no_large_memory_when_compiled(has_priorities, cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    spec = EnvironmentSpec((1,), "float32", 1, None, 2, ("", ""), 1, None)
    settings = {"capacity_steps": 4_000_000, "discount": torch.tensor([0.99]), "device": torch.device("cpu")}
    if has_priorities:
        priorities = Priorities(0.6, 0.01, 0.0, True, "batch")
        memory = PrioritizedMemory(priorities, spec=spec, num_envs=2, **settings)
    else:
        memory = UniformMemory(spec, 2, replacement=True, **settings)
    no = torch.zeros((1, 2), dtype=torch.bool)
    experience = Experience(no.long(), no.float(), no, no, torch.zeros((1, 2, 1)))
    compiled = Compiled(lambda *tensors: memory.add(Experience(*tensors)), "storing")

    def seconds(store: Callable[..., None]) -> float:
        taken = []
        for _ in range(30):
            started = time.perf_counter()
            store(*experience)
            taken.append(time.perf_counter() - started)
        return min(taken)

    # The least of them, since the first compiles. A copy of one large tensor would take many times as long.
    assert seconds(compiled) < 3 * seconds(lambda *tensors: memory.add(Experience(*tensors)))


def test_tracing_changes_nothing_and_finds_what_the_function_owns():
    counter, table = torch.zeros(1, dtype=torch.int64), torch.ones(2, 3)
    owner = SimpleNamespace(counter=counter)

    def step(values: torch.Tensor) -> torch.Tensor:
        owner.counter += 1  # assigns: the attribute must still be the tensor
        table.view(-1)[:2].mul_(values)
        return table.sum() + owner.counter

    graph, state = compilation._trace(step, [torch.full((2,), 5.0)])
    assert owner.counter is counter
    assert counter.item() == 0
    assert torch.equal(table, torch.ones(2, 3))
    assert {id(tensor) for tensor in state} == {id(counter), id(table)}
    result = graph(*state, torch.full((2,), 5.0))
    assert (counter.item(), table.sum().item(), result.item()) == (1, 14.0, 15.0)


def test_a_run_is_compiled_if_it_says_so_or_is_long(make_config):
    for compiles, steps, expected in [
        ("always", 400, True),
        ("never", 10_000_000, False),
        ("auto", 400, False),
        ("auto", 100_000, True),
        ("auto", 99_998, False),
    ]:
        settings = make_config(*SMALL, f"trainer.compile={compiles}", f"trainer.total_steps={steps}").trainer
        assert wants_compilation(settings, 50_000) is expected


@pytest.mark.parametrize(
    "length", [("trainer.total_steps=null", "trainer.total_episodes=5"), ("trainer.learn_every_steps=null",)]
)
def test_a_run_of_unknown_length_is_compiled_where_that_costs_nothing(length, make_config):
    settings = make_config(*SMALL, *length, "trainer.compile=auto").trainer
    assert wants_compilation(settings, 0)
    assert not wants_compilation(settings, 1)


def test_without_a_compiler_the_run_goes_uncompiled_and_says_so_once(make_config, monkeypatch, capfd):
    from torch._inductor import cpp_builder, exc

    def none() -> str:
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    trainer, _ = train(make_config(*SMALL, "trainer.compile=always"))
    assert trainer.updates[0] > 150
    assert capfd.readouterr().err.count("no C++ compiler") == 1


def test_where_compiling_fails_the_function_itself_is_called_and_one_line_says_why(monkeypatch, tmp_path, capfd):
    def fail(*_: object) -> None:
        raise RuntimeError("no space left\nand a long trace")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compilation, "_compile", fail)
    total = torch.zeros(2)
    add = Compiled(total.add_, "adding")
    for times in (1, 2, 3):
        add(torch.ones(2))
        assert total.tolist() == [times, times]
    assert capfd.readouterr().err.count("adding goes uncompiled: no space left\n") == 1


@needs_compiler
@pytest.mark.long
def test_nobody_else_can_write_where_code_is_loaded_from(tmp_path):
    """A process of its own tells the places that it reads, and what it unpickles."""
    script = """
import os, stat, sys
from pathlib import Path
opened, unpickled = [], []
def hook(event, args):
    if event == "open":
        opened.append(Path(os.path.abspath(str(args[0]))))
    elif event == "pickle.find_class":
        unpickled.append(args)
sys.addaudithook(hook)
import torch
from dqn.compilation import Compiled
total = torch.zeros(3)
Compiled(lambda values: total.add_(values) * 2, "adding")(torch.arange(3.0))
assert not unpickled, unpickled
ours = [Path(os.environ["XDG_CACHE_HOME"]) / "dqn", *Path(os.environ["TMPDIR"]).glob("torchinductor_*")]
assert len(ours) == 2
assert all(any(folder in path.parents for path in opened) for folder in ours)
assert [stat.S_IMODE(folder.stat().st_mode) for folder in ours] == [0o755, 0o755]
"""
    temporary, cache = tmp_path / "temporary", tmp_path / "cache"
    (temporary / f"torchinductor_{getpass.getuser()}").mkdir(parents=True)
    (temporary / f"torchinductor_{getpass.getuser()}").chmod(0o777)
    (cache / "dqn").mkdir(parents=True)
    (cache / "dqn").chmod(0o777)
    places = {"XDG_CACHE_HOME": str(cache), "TMPDIR": str(temporary)}
    elsewhere = {key: value for key, value in os.environ.items() if key != "TORCHINDUCTOR_CACHE_DIR"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=elsewhere | places, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "uncompiled" not in done.stderr


@pytest.mark.parametrize("whose", ["dqn", "torchinductor"])
def test_a_folder_that_is_somebody_elses_is_not_used(whose, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    theirs: list[Path] = []

    def is_ours(path: Path) -> bool:
        theirs.extend([path] if path.name.startswith(whose) else [])
        return path not in theirs

    monkeypatch.setattr(compilation, "_is_ours", is_ours)
    double = Compiled(lambda values: values * 2, "doubling")
    assert double(torch.arange(3.0)).tolist() == [0.0, 2.0, 4.0]
    reason = f"{theirs[0]} belongs to another user; XDG_CACHE_HOME and TMPDIR name other places"
    assert capsys.readouterr().err == f"trainer.compile: doubling goes uncompiled: {reason}\n"
    assert not can_compile()
    assert reason in capsys.readouterr().err


@needs_compiler
def test_a_file_that_is_somebody_elses_is_made_anew(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    total = torch.zeros(3)

    def add(values: torch.Tensor) -> torch.Tensor:
        total.add_(values)
        return total * 2

    Compiled(add, "adding")(torch.arange(3.0))
    made: list[Path] = []
    monkeypatch.setattr(compilation, "_is_ours", lambda path: path.suffix != ".pt2" or path in made)
    (kept,) = (tmp_path / "dqn" / "compiled").glob("*.pt2")
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1] + b"x")  # which would not do
    monkeypatch.setattr(compilation, "_compile", lambda graph, inputs, path: path.write_bytes(whole))
    Compiled(add, "adding")(torch.arange(3.0))
    assert capsys.readouterr().err.count("compiling the training step (adding)") == 2
    assert kept.read_bytes() == whole
