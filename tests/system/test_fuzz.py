"""Random command lines never end in a traceback, a hang or a half-written folder.

`pytest -n 0 -m fuzz tests/system/test_fuzz.py` tries 2,000; FUZZ_SEED=<what it printed> tries the same again.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from command_lines import command_lines
from hypothesis import HealthCheck, Phase, given, seed, settings
from shell import SHORT, Script, run_script

_SECONDS = 20.0  # after which a run that goes on is stopped by Ctrl-C, and may take as long again to end
_MEMORY_BYTES = 12 * 2**30  # of addresses, most of which no process ever touches
_SEED = int(os.environ.get("FUZZ_SEED", time.time_ns() % 2**32))

# No shrinking: each try takes half a second, and what fails is short already.
_EACH = settings(deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))

_STATUSES = {0, 1, 2, 130}
_ENDS = {"completed", "converged", "pruned", "diverged"}
_WHOLE_RUN = {"config.yaml", "provenance.json", "metrics.jsonl", "summary.json"}
_SAYS_WHAT = re.compile(
    r"error: (\S+?=|[\w.\[\]/]+ is missing: |cannot read the override |argument -|unrecognized arguments: |The --)"
)

Contents = dict[str, tuple[int, int] | None]


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what commands may come across."""
    folder = tmp_path_factory.mktemp("places")
    done = run_script("train", [*SHORT, "hydra.run.dir=run"], folder, tmp_path_factory.mktemp("printed"))
    assert done.returncode == 0, done.stderr
    for path in (folder / "full" / "file", folder / "file"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("of the user")
    (folder / "empty").mkdir()
    return folder


@settings(_EACH, max_examples=15, derandomize=True)
@given(words=command_lines())
def test_a_few_random_command_lines(words, places, tmp_path_factory):
    try_out(words, places, tmp_path_factory.getbasetemp() / "fuzz")


@pytest.mark.fuzz
def test_many_random_command_lines(places, tmp_path_factory, capsys):
    ends: Counter[int] = Counter()
    failures: list[str] = []

    @seed(_SEED)
    @settings(_EACH, max_examples=2000)
    @given(words=command_lines())
    def each(words):
        try:
            ends[try_out(words, places, tmp_path_factory.getbasetemp() / "fuzz")] += 1
        except AssertionError as error:
            failures.append(str(error))  # and go on: what else is there?
            with capsys.disabled():
                print(f"\n{error}", flush=True)

    started = time.monotonic()
    with capsys.disabled():
        print(f"\nFUZZ_SEED={_SEED}", flush=True)
    each()
    with capsys.disabled():
        counts = ", ".join(f"{count} with status {status}" for status, count in sorted(ends.items()))
        print(f"{time.monotonic() - started:.0f} s: {counts}, {len(failures)} failed")
    assert not failures


def try_out(words: list[str], places: Path, folder: Path) -> int:
    """Run a command line in a copy of `places`, check what it leaves, and return its exit status."""
    work, beside = folder / "work", folder / "printed"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(places, work)
    beside.mkdir()
    before = contents(work)
    try:
        done = attempt(words, work, beside)
        check(done, work, before)
    except AssertionError as error:
        printed = (beside / "stderr").read_text(errors="replace")
        raise AssertionError(f"{error}\nscripts/train.py {shlex.join(words)}\n{printed[-4000:]}") from error
    return done.returncode


def attempt(words: list[str], folder: Path, beside: Path) -> subprocess.CompletedProcess[str]:
    """The command, stopped by Ctrl-C if it is not over soon."""
    script = Script("train", words, folder, beside, memory_bytes=_MEMORY_BYTES)
    try:
        script.wait(_SECONDS)
        if script.is_running:
            os.kill(script.pid, signal.SIGINT)
            script.wait(_SECONDS)
        assert not script.is_running, "hangs"
        return script.done()
    finally:
        script.kill()


def contents(folder: Path) -> Contents:
    """Everything below a folder: of files size and time."""
    stats = {path: path.lstat() for path in sorted(folder.rglob("*"))}
    return {
        str(path.relative_to(folder)): None if path.is_dir() else (stat.st_size, stat.st_mtime_ns)
        for path, stat in stats.items()
    }


def check(done: subprocess.CompletedProcess[str], folder: Path, before: Contents) -> None:
    """Assert what is to be true of every command line."""
    after = contents(folder)
    assert "Traceback" not in done.stderr + done.stdout
    assert done.returncode in _STATUSES
    assert not [path for path in after if path.endswith(".part")]
    errors = [line for line in done.stderr.split("\n") if line.startswith("error: ")]
    runs = {Path(path).parent for path in after if path.endswith("config.yaml") and after[path] != before.get(path)}
    for run in runs:
        check_run(folder / run, done.returncode)
    if done.returncode == 2:
        (error,) = errors
        assert _SAYS_WHAT.match(error)
        assert error.replace("\N{NO-BREAK SPACE}", " ").isprintable()
        assert len(error) < 1000
        if "hydra/launcher=basic" not in done.args:  # Hydra's own checks a job when those before it are over
            assert done.stderr == f"{error}\n"
            assert done.stdout == "" or "--info" in done.args
            assert after == before
    elif done.returncode == 1:
        assert len(errors) == 1 or "the loss stopped being a finite number" in done.stderr
    else:
        assert errors == []
        if not runs:  # a config was shown, or help; or many jobs were still being composed
            assert done.returncode == 0 or "-m" in done.args
            assert after == before


def check_run(run: Path, status: int) -> None:
    """Assert that a run's folder is whole, as far as it goes."""
    files = {path.name for path in run.iterdir()}
    assert {"config.yaml", "provenance.json"} <= files
    if status in (0, 130):
        assert files >= _WHOLE_RUN
        assert json.loads((run / "summary.json").read_text())["status"] in _ENDS | (
            {"interrupted"} if status else set()
        )
    if "metrics.jsonl" in files:
        for line in (run / "metrics.jsonl").read_text().splitlines():
            json.loads(line)
    assert not [path for path in run.glob("checkpoints/*") if path.name.startswith(".")]
