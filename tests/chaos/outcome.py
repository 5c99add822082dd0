"""What a row came to, in the common form of the benchmarks, and which rows need not run again."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.common import Row, row
from tests.chaos.sizes import Counts, Size
from tests.chaos.world import Plan, World

RESULTS = Path(__file__).with_name("results.json")


@dataclass
class Outcome:
    """Figures with their goals, and what was really injected."""

    injected: dict[str, int] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    def at_most(self, key: str, value: float, goal: float, *, unit: str = "", spread: str = "") -> None:
        """Add a figure that may not exceed its goal."""
        self.rows.append(row(key, value, unit, goal=goal, at_least=False, spread=spread))

    def at_least(self, key: str, value: float, goal: float, *, unit: str = "", spread: str = "") -> None:
        """Add a figure that must reach its goal."""
        self.rows.append(row(key, value, unit, goal=goal, spread=spread))

    @property
    def broken(self) -> list[str]:
        """The keys of the figures that miss their goals."""
        return [row["key"] for row in self.rows if not row["met"]]


@dataclass(frozen=True)
class Promise:
    """One row of the table: a sentence, what it runs on, and its proof."""

    number: int
    sentence: str
    plan: Callable[[Size], Plan]
    prove: Callable[[World, Size], Outcome]


def finished(promise: Promise, counts: Counts) -> bool:
    """Whether the results hold this row already, kept, from this commit and with these counts."""
    known = [row for row in _known() if row["promise"] == promise.number]
    return bool(known) and all((row["commit"], row["counts"], row["met"]) == (commit(), counts, True) for row in known)


def keep(promise: Promise, counts: Counts, outcome: Outcome) -> None:
    """Write a row's figures in the place of its earlier ones."""
    told = {
        "promise": promise.number,
        "injected": outcome.injected,
        "counts": counts,
        "commit": commit(),
        "command": f"python -m tests.chaos {promise.number}",
    }
    others = [row for row in _known() if row["promise"] != promise.number]
    rows = others + [figure | told for figure in outcome.rows]
    common.write_results("chaos", sorted(rows, key=lambda row: row["promise"]), RESULTS)


def commit() -> str:
    """The newest commit that changed what a row depends on; one that records results is none."""
    root = Path(__file__).parents[2]
    changes = ["shared", "services", "tests/chaos", ":(exclude)tests/chaos/results.json"]
    command = ["git", "log", "-1", "--format=%h", "--", *changes]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=root).stdout.strip() or "-"


def _known() -> list[dict[str, Any]]:
    return json.loads(RESULTS.read_text())["rows"] if RESULTS.is_file() else []
