"""How the cost grows with the members of a population, and what tensors for environments and compiling bring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import Any

from rich.table import Table

from dqn.benchmark.floor import Floor
from dqn.benchmark.measurement import Joint, differences
from dqn.benchmark.processes import OURS, in_a_process, measure
from dqn.benchmark.report import LAYOUT
from dqn.benchmark.workloads import GROWTH
from dqn.compilation import can_compile

_BACKENDS = ("gymnasium", "torch")


@dataclass
class Growth:
    """Every size once, in each form."""

    floor: Floor
    measured: list[Joint] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """Where a population did not do the work that it should."""
        return [
            f"growth, {one.members} members: {words}"
            for one in self.measured
            for words in differences(replace(GROWTH, members=one.how["members"]), [one], [])
        ]

    @property
    def record(self) -> dict[str, Any]:
        """All that was measured."""
        return {"problems": self.problems, **asdict(self)}


def measure_growth(sizes: Sequence[int]) -> Growth:
    """Measure populations of these sizes."""
    growth = Growth(Floor(**in_a_process("dqn.benchmark.floor", {"workload": GROWTH.name})))
    forms = GROWTH.compile if can_compile() else ("never",)
    for members, backend, compiles in product(dict.fromkeys(sizes), _BACKENDS, forms):
        how = {"num_envs": GROWTH.num_envs[-1], "compile": compiles, "precision": "float32"}
        growth.measured.append(measure(OURS, GROWTH, **how, members=members, backend=backend))
    return growth


def growth_table(growth: Growth) -> Table:
    """A row for each size."""
    title = "Agent steps per second of all members, once each, on one thread: an update every step, batch 32"
    table = Table(title=title, **LAYOUT)
    forms = list(dict.fromkeys((one.how["backend"], one.how["compile"]) for one in growth.measured))
    names = {"never": "uncompiled", "always": "compiled"}
    for heading in ("members", *(f"{backend}, {names[compiles]}" for backend, compiles in forms), "best of the floor"):
        table.add_column(heading, justify="right", overflow="fold")
    floor = growth.floor.steps_per_second("float32")
    for members in dict.fromkeys(one.members for one in growth.measured):
        speeds = {
            (one.how["backend"], one.how["compile"]): one.steps_per_second
            for one in growth.measured
            if one.members == members
        }
        cells = [f"{speeds[form]:,.0f}" for form in forms]
        table.add_row(str(members), *cells, f"{max(speeds.values()) / floor:.0%}")
    return table
