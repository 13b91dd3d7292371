"""Where a result comes from: code, versions, machine and command. No environment variables, which hold secrets."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import distributions
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

_MOST_CHANGES = 1_000_000  # characters of a diff
_PROJECT = Path(__file__).parents[1]
_SOURCES = ("conf", "dqn", "scripts", "pyproject.toml")  # what else lies about is nobody's business


def provenance() -> dict[str, Any]:
    """What is needed to know, or to rebuild, how a run came about."""
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": _without_passwords(shlex.join([Path(sys.executable).name, *sys.argv])),
        "git": _git(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "packages": dict(sorted({d.metadata["Name"]: d.version for d in distributions()}.items())),
        "hardware": {
            "platform": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_bytes": installed_memory(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
    }


def _without_passwords(command: str) -> str:
    """A command without what stands before the last @ of addresses such as postgresql://name:password@host."""
    return re.sub(r"(?<=://)\S+(?=@)", "***", command)


def installed_memory() -> int | None:
    """The machine's memory in bytes, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _git() -> dict[str, Any] | None:
    """The commit of the code, and what was changed in it since then; None outside a repository.

    Each is taken by itself: what git cannot say, or takes too long for, is None.
    """
    record: dict[str, Any] = dict.fromkeys(("commit", "dirty", "diff"))
    with suppress(OSError, subprocess.SubprocessError):
        record["commit"] = _text(_ask_git("rev-parse", "HEAD")).strip()
    with suppress(OSError, subprocess.SubprocessError):
        record["dirty"] = bool(_ask_git("--no-optional-locks", "status", "--porcelain"))
    with suppress(OSError, subprocess.SubprocessError):
        record["diff"] = _changes()
    return None if record["commit"] is None else record


def _changes() -> str:
    """The difference from the commit, as far as it is not too long."""
    with TemporaryDirectory() as folder:
        # In an index of its own, where files that nobody has added count as new ones.
        index = {"GIT_INDEX_FILE": f"{folder}/index"}
        _ask_git("read-tree", "HEAD", **index)
        listed = _ask_git("ls-files", "-z", "--others", "--exclude-standard", "--", *_SOURCES, **index)
        new = [os.fsdecode(name) for name in listed.split(b"\0") if name]
        if new:
            _ask_git("add", "--intent-to-add", "--", *new, **index)
        plain = ("--no-color", "--no-ext-diff", "--no-textconv", "--binary")
        changes = _text(_ask_git("diff", *plain, "HEAD", "--", *_SOURCES, **index))
    if len(changes) > _MOST_CHANGES:
        changes = f"{changes[:_MOST_CHANGES]}\n[... {len(changes) - _MOST_CHANGES:,} characters more]"
    return changes


def _ask_git(*arguments: str, **variables: str) -> bytes:
    """What git says about the project.

    Raises:
        OSError, subprocess.SubprocessError: it fails, or there is none.
    """
    command, environment = ["git", *arguments], os.environ | variables
    return subprocess.run(command, cwd=_PROJECT, env=environment, capture_output=True, check=True, timeout=10).stdout


def _text(said: bytes) -> str:
    r"""The text; a byte that is not of UTF-8, as old files have them, becomes \xe9."""
    return said.decode(errors="backslashreplace")


def _processor() -> str:
    """The processor's name; platform.processor() is often empty on Linux."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
