"""What every benchmark shares: one table on the screen, one JSON file under `benchmarks/results/`."""

import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "transformers", "peft", "celery", "redis", "fastapi", "faiss-cpu")
COLUMNS = ("key", "value", "spread", "unit", "goal", "met")
Row = dict[str, Any]


def row(
    key: str, value: float, unit: str, *, spread: str = "", goal: float | None = None, at_least: bool = True
) -> Row:
    """One figure; `goal` is a lower bound, or an upper one with `at_least=False`; without a goal any value passes."""
    met = None if goal is None else (value >= goal if at_least else value <= goal)
    sign = ">=" if at_least else "<="
    return {
        "key": key,
        "value": round(value, 3),
        "spread": spread,
        "unit": unit,
        "goal": "" if goal is None else f"{sign} {goal}",
        "met": met,
        "command": " ".join(["python", *(Path(arg).name if arg == sys.argv[0] else arg for arg in sys.orig_argv[1:])]),
    }


def median_row(key: str, values: list[float], unit: str, **goal: Any) -> Row:
    """The median of repeated runs, with the lowest and highest as its spread."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return row(key, median, unit, spread=f"{ordered[0]:.3g} to {ordered[-1]:.3g}, n={len(ordered)}", **goal)


def write_results(benchmark: str, rows: list[Row], file: Path | None = None) -> Path:
    """Write the rows with the environment of the measurement, by default into the benchmark's file; returns it."""
    file = file or RESULTS / f"{benchmark}.json"
    file.parent.mkdir(exist_ok=True)
    content = {"bench": benchmark, "date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": _commit(),
               "machine": _machine(), "versions": _versions(), "rows": rows}  # fmt: skip
    file.write_text(json.dumps(content, indent=2) + "\n")
    return file


def print_table(rows: list[Row]) -> None:
    """Print the rows under their column names."""
    cells = [COLUMNS, *([_cell(line[column]) for column in COLUMNS] for line in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    return {True: "yes", False: "NO", None: "-"}[value] if value is None or isinstance(value, bool) else str(value)


def _machine() -> dict[str, Any]:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
        "system": platform.system(),
        "python_additions_per_cpu_s": round(_additions_per_cpu_s(), -5),
    }


def _additions_per_cpu_s(count: int = 3_000_000) -> float:
    """How fast this machine's Python is: figures of CPU time from two machines compare by it."""
    started, total = time.process_time(), 0
    for number in range(count):
        total += number
    return count / (time.process_time() - started)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "-"


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "-"
