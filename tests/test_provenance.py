"""What is written down of a run's origin is enough to have its code again, and no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dqn import provenance

git = pytest.mark.skipif(subprocess.run(["which", "git"], check=False).returncode != 0, reason="there is no git")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A repository with one commit, in the place of this one."""
    path = tmp_path / "project"
    (path / "dqn").mkdir(parents=True)
    (path / "dqn" / "old.py").write_text("a = 1\n\nb = 2\n\n")
    (path / ".gitignore").write_text("*.log\n")
    ask(path, "init", "--quiet")
    ask(path, "add", "--all")
    ask(path, "-c", "user.name=n", "-c", "user.email=e", "commit", "--quiet", "--message=first")
    monkeypatch.setattr(provenance, "_PROJECT", path)
    return path


def ask(folder: Path, *arguments: str, given: str | None = None) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, input=given).stdout


@git
def test_commit_and_diff_bring_the_code_back(project, tmp_path):
    (project / "dqn" / "old.py").write_text("a = 1\n\nb = 3\n\n")  # its diff ends with a line of one space
    (project / "dqn" / "deeper").mkdir()
    (project / "dqn" / "deeper" / "new file.py").write_text("c = 1\n")
    for name in ("secret.txt", "dqn/training.log"):
        (project / name).write_text("hidden")
    record = provenance.provenance()["git"]
    assert record["dirty"]
    assert "hidden" not in record["diff"]
    assert ask(project, "status", "--porcelain").splitlines() == [" M dqn/old.py", "?? dqn/deeper/", "?? secret.txt"]
    ask(tmp_path, "clone", "--quiet", str(project), "again")
    ask(tmp_path / "again", "checkout", "--quiet", record["commit"])
    ask(tmp_path / "again", "apply", given=record["diff"])
    for name in ("dqn/old.py", "dqn/deeper/new file.py"):
        assert (tmp_path / "again" / name).read_text() == (project / name).read_text()


@git
def test_a_byte_that_is_no_utf_8_does_not_hide_the_rest(project):
    (project / "dqn" / "old.py").write_bytes(b"a = 1\n\nb = 2  # caf\xe9\n\n")
    new = os.fsdecode(b"n\xe9w.py") if sys.platform == "linux" else "new.py"  # others have no such names
    (project / "dqn" / new).write_text("c = 1\n")
    record = provenance.provenance()["git"]
    assert record["commit"] == ask(project, "rev-parse", "HEAD").strip()
    assert record["dirty"]
    assert "+b = 2  # caf\\xe9\n" in record["diff"]
    assert "+c = 1\n" in record["diff"]
    json.dumps(record).encode()


@git
def test_without_its_diff_the_commit_is_still_there(project, monkeypatch):
    (project / "dqn" / "old.py").write_text("")
    run = subprocess.run

    def slow(command: list[str], **options: object) -> object:
        if "diff" in command:
            raise subprocess.TimeoutExpired(command, 10)
        return run(command, **options)

    monkeypatch.setattr(provenance.subprocess, "run", slow)
    record = provenance.provenance()["git"]
    assert record == {"commit": ask(project, "rev-parse", "HEAD").strip(), "dirty": True, "diff": None}


@git
def test_without_changes_there_is_no_diff(project):
    record = provenance.provenance()["git"]
    assert record == {"commit": ask(project, "rev-parse", "HEAD").strip(), "dirty": False, "diff": ""}


def test_outside_a_repository_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "_PROJECT", tmp_path)
    assert provenance.provenance()["git"] is None
