"""Mounts of a test's own, which nobody else sees and which end with it.

They need root, or a system that has user namespaces for everybody.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_WAYS = (("mnt",), ("user", "mnt"))  # for root, and for everybody
_OPTIONS = {"mnt": ["--mount"], "user": ["--user", "--map-root-user"]}


class Mounts:
    """The namespaces of a process that does nothing else than to hold them.

    Args:
        pid: of that process.
        kinds: which namespaces are its own, in the order in which they are entered.
    """

    def __init__(self, pid: int, kinds: tuple[str, ...]) -> None:
        self._namespaces = [f"/proc/{pid}/ns/{kind}" for kind in kinds]
        self._root = Path(f"/proc/{pid}/root")

    def seen(self, path: Path) -> Path:
        """Where a test finds what a script has at this path."""
        return self._root / path.relative_to("/")

    def mount(self, *words: str) -> None:
        """The command of that name, in here."""
        subprocess.run(["mount", *words], check=True, preexec_fn=self.enter)

    def enter(self) -> None:
        """Have this process, of one thread, in here."""
        libc = ctypes.CDLL(None, use_errno=True)
        for namespace in self._namespaces:
            with Path(namespace).open() as file:
                if libc.setns(file.fileno(), 0) != 0:
                    raise OSError(ctypes.get_errno(), namespace)


@contextmanager
def own_mounts(folder: Path) -> Iterator[Mounts | None]:
    """Mounts until the end of the block; None where this machine allows none. `folder` is an empty one to try it on."""
    for kinds in _WAYS:
        options = [option for kind in kinds for option in _OPTIONS[kind]]
        trial = 'mount -t tmpfs tmpfs "$0" && umount "$0" && echo ready && exec cat'
        try:
            command = ["unshare", *options, "sh", "-c", trial, str(folder)]
            pipe = subprocess.PIPE
            holder = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        except FileNotFoundError:
            break
        with holder:  # which ends as its input does
            assert holder.stdout is not None
            if holder.stdout.readline():
                yield Mounts(holder.pid, kinds)
                return
    yield None
