"""Functions on tensors compiled ahead of time, once for all runs that have the same shapes.

A function is traced into one graph, in which the tensors that it owns (parameters, the memory, counters) become inputs
that the compiled form changes in place. What PyTorch's compiler makes of it is kept in a file, so that only
the first run waits for it. A call costs little more than its arithmetic: no Python runs inside, and no guards are
checked, because a run's shapes never change.
"""

from __future__ import annotations

import hashlib
import os
import platform
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from dqn.config import TrainerConfig
from dqn.errors import first_line
from dqn.files import sync
from dqn.terminal import say

_OPTIONS = {
    # Else scalars, such as Adam's bias correction with its powers, are computed anew for each of the parameters.
    "realize_opcount_threshold": 0,
    # One allocation for all that is intermediate: else malloc and free are a tenth of an update of a small network.
    # Before 2.9 PyTorch leaked what a function returned then (pytorch/pytorch#159839).
    "memory_planning": torch.__version__ >= "2.9",
}
_tracing = False


def is_tracing() -> bool:
    """Whether the code that asks is being traced: it must then be a pure function of flat tensors."""
    return _tracing


def wants_compilation(settings: TrainerConfig, pays_from_updates: float) -> bool:
    """What `trainer.compile` means for this run: its own word, or for "auto" whether the run is long enough.

    Args:
        settings: of the trainer.
        pays_from_updates: the number of updates whose gain is worth the time that compiling takes.
    """
    if settings.compile != "auto":
        return settings.compile == "always"
    if settings.total_steps is None or settings.learn_every_steps is None:  # nobody knows how long it will be
        return pays_from_updates == 0
    return settings.total_steps // settings.learn_every_steps * settings.updates_per_learn >= pays_from_updates


def can_compile() -> bool:
    """Whether there is what compiling for a CPU needs; says what is missing."""
    from torch._inductor import cpp_builder, exc

    try:
        _own_cache()
        cpp_builder.get_cpp_compiler()
    except exc.InvalidCxxCompiler:
        say("trainer.compile: there is no C++ compiler (g++ or clang++) here, so this run goes uncompiled")
        return False
    except OSError as error:
        say(f"trainer.compile: no place for what is compiled ({error}), so this run goes uncompiled")
        return False
    return True


class Compiled:
    """A function of tensors that returns one tensor or none, compiled when it is first called.

    Its arguments must keep the shapes, strides and types of the first call, and the tensors that it owns their places.

    Args:
        function: changes tensors in place or returns one; looks at no tensor's value.
        name: what messages call it.
    """

    seconds = 0.0  # that all of them have taken to be made, in this process

    def __init__(self, function: Callable[..., Tensor | None], name: str) -> None:
        self._function, self._name = function, name
        self._state: list[Tensor] = []
        self._graph: fx.GraphModule | None = None
        self._run: Callable[[list[Tensor]], list[Tensor]] | None = None

    def __call__(self, *args: Tensor) -> Any:
        """Call it; the first time it is traced, and compiled if that has not been done before."""
        if self._run is None:
            self.prepare(*args)
            assert self._run is not None
        outputs = self._run([*self._state, *args])
        return outputs[0] if outputs else None

    def prepare(self, *args: Tensor, waits: bool = True) -> None:
        """Trace it and compile it, for arguments like these; without `waits` not if another process is at just that."""
        if self._run is not None:
            return
        started = time.perf_counter()
        try:
            self._run = self._made(args, waits)
        except Exception as error:  # whatever a compiler may meet, training can do without
            reason = first_line(error)
            say(f"trainer.compile: {self._name} goes uncompiled: {reason}")
            self._run = self._uncompiled
        Compiled.seconds += time.perf_counter() - started

    def _uncompiled(self, inputs: list[Tensor]) -> list[Tensor]:
        """What a compiled form does, by the function itself."""
        output = self._function(*inputs[len(self._state) :])
        return [] if output is None else [output]

    def _made(self, args: Sequence[Tensor], waits: bool) -> Callable[[list[Tensor]], list[Tensor]] | None:
        if self._graph is None:
            self._graph, self._state = _trace(self._function, args)
        graph = self._graph
        path = _own_cache() / f"{_key(graph, [*self._state, *args])}.pt2"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of torch about itself
            try:
                with FileLock(path.with_suffix(".lock"), timeout=-1 if waits else 0):  # held by one that makes the same
                    if not (zipfile.is_zipfile(path) and _is_ours(path)):  # absent, or damaged
                        say(f"compiling the training step ({self._name}); once for runs of this kind")
                        _compile(graph, [*self._state, *args], path)
            except Timeout:
                return None
            package: Any = torch._inductor.aoti_load_package(str(path))
        runner: Callable[[list[Tensor]], list[Tensor]] = package.loader.boxed_run
        return runner


def prepare_all(functions: Sequence[tuple[Compiled, Sequence[Tensor]]]) -> None:
    """Make all of them ready, for arguments like these; processes that want the same ones share the work."""
    for waits in (False, True):
        for function, args in functions:
            function.prepare(*args, waits=waits)


def _trace(function: Callable[..., Tensor | None], args: Sequence[Tensor]) -> tuple[fx.GraphModule, list[Tensor]]:
    """The function as a graph of tensor operations, and the tensors it owns, which are the graph's first inputs.

    Nothing is computed meanwhile, and nothing changes.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    fake = FakeTensorMode()
    found = _StandIns(fake.from_tensor)
    with _traced(), fake, found:
        function(*[fake.from_tensor(tensor) for tensor in args])
    state = found.originals

    def pure(*tensors: Tensor) -> Tensor | None:
        stand_ins = iter(tensors[: len(state)])
        with _StandIns(lambda _: next(stand_ins), state):
            return function(*tensors[len(state) :])

    with _traced():
        return make_fx(pure, tracing_mode="fake")(*state, *args), state


class _StandIns(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """In every operation real tensors give way to stand-ins without data; what is written goes there.

    Args:
        make: a stand-in for a real tensor.
        originals: those that get one at once, in this order; others when they are met.
    """

    def __init__(self, make: Callable[[Tensor], Tensor], originals: Sequence[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.originals: list[Tensor] = []
        self._make = make
        self._by_place: dict[Any, Tensor] = {}
        self._back: dict[int, Tensor] = {}
        for original in originals:
            self._stand_in(original)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map_only(Tensor, self._stand_in, (args, kwargs or {}))
        # `counter += 1` assigns what it returns: that must be the counter itself.
        return tree_map_only(Tensor, lambda result: self._back.get(id(result), result), func(*args, **kwargs))

    def _stand_in(self, tensor: Tensor) -> Tensor:
        if isinstance(tensor, FakeTensor):
            return tensor
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if place not in self._by_place:
            self.originals.append(tensor)
            self._by_place[place] = self._make(tensor)
        self._back[id(self._by_place[place])] = tensor
        return self._by_place[place]


def _compile(graph: fx.GraphModule, inputs: Sequence[Tensor], path: Path) -> None:
    """Write the compiled graph; complete or not at all."""
    beside = path.with_name(f"{path.stem}-{os.getpid()}.pt2")
    exported = torch.export.export(graph, tuple(inputs), strict=False)
    torch._inductor.aoti_compile_and_package(exported, package_path=str(beside), inductor_configs=dict(_OPTIONS))
    sync(beside)
    beside.replace(path)


def _key(graph: fx.GraphModule, inputs: Sequence[Tensor]) -> str:
    """Names the compiled form: what the graph computes, on which tensors, with which compiler, for which machine."""
    tensors = [(tuple(t.shape), t.stride(), str(t.dtype), str(t.device)) for t in inputs]
    machine = (platform.machine(), _instructions(), torch.get_num_threads())
    what = (graph.code, tensors, machine, torch.__version__, sorted(_OPTIONS.items()))
    return hashlib.sha256(repr(what).encode()).hexdigest()[:32]


def _instructions() -> str:
    """What the processor can do: the compiler uses all of it, and machines may share a cache."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def _own_cache() -> Path:
    """The folder of what is compiled. Here and where PyTorch's compiler keeps its files, nobody else can put code.

    The compiler's folder is in /tmp under a name that others could use first, and it loads libraries from there.

    Raises:
        OSError: a folder cannot be made, or belongs to somebody else.
    """
    from torch._inductor.runtime.runtime_utils import cache_dir, default_cache_dir  # type: ignore[attr-defined]

    ours = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dqn"
    of_the_compiler = dict.fromkeys(map(Path, (default_cache_dir(), cache_dir())))  # headers are always in the first
    for place in (ours, ours / "compiled", *of_the_compiler):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_ours(place):
            raise PermissionError(f"{place} belongs to another user; XDG_CACHE_HOME and TMPDIR name other places")
        place.chmod(place.stat().st_mode & ~0o022)  # one that was there may have been open to a group
    return ours / "compiled"


def _is_ours(path: Path) -> bool:
    return not hasattr(os, "getuid") or path.stat().st_uid == os.getuid()


@contextmanager
def _traced() -> Iterator[None]:
    global _tracing
    _tracing = True
    try:
        yield
    finally:
        _tracing = False
