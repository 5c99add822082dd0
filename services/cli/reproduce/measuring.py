"""A release's selector on test rows, part by part; and what the figures were measured with."""

import os
import platform
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.reproduce.outcomes import Measured, Provenance, SelectorPart
from services.cli.reproduce.rows import HeldOutRows
from shared.registry import ReleaseSelector
from shared.selection import selection_text

if TYPE_CHECKING:
    from services.trainer.infra.select_scores import Reader

_PACKAGES = ("torch", "transformers", "peft", "faiss-cpu", "scikit-learn")


def measure_parts(
    selector: ReleaseSelector, rows: HeldOutRows, overlapping: Collection[str], reader: "Reader"
) -> dict[SelectorPart, Measured]:
    """Joint accuracy and confusion of the selector and of each of its parts alone, from one reading of the rows."""
    from services.trainer.domain.metrics import measure
    from services.trainer.infra.select_scores import route_rows

    opinions = reader.read(selector, [selection_text(selector.text, row.input, row.instruction) for row in rows.rows])
    return {
        part: _measured(measure(route_rows(alone, opinions, rows.gold)).confusion, overlapping)
        for part, alone in _parts(selector).items()
    }


def _parts(selector: ReleaseSelector) -> dict[SelectorPart, ReleaseSelector]:
    """A cascade is its parts as well; nothing is rejected, because the paper's selectors reject nothing."""
    whole = selector.model_copy(update={"threshold": 0.0})
    if whole.kind != "cascade":
        return {whole.kind: whole}
    return {
        "llm": whole.model_copy(update={"light": ""}),
        "light": whole.model_copy(update={"llm": ""}),
        "cascade": whole,
    }


def _measured(confusion: Mapping[str, Mapping[str, int]], overlapping: Collection[str]) -> Measured:
    clear = [label for label in confusion if label not in overlapping]
    blurred = [label for label in confusion if label in overlapping]
    return Measured(
        accuracy=_share_right(confusion, list(confusion)) or 0.0,
        n=sum(sum(own.values()) for own in confusion.values()),
        clear=_share_right(confusion, clear),
        overlapping=_share_right(confusion, blurred),
        per_label={label: _share_right(confusion, [label]) or 0.0 for label in confusion},
        confusion={gold: dict(own) for gold, own in confusion.items()},
    )


def _share_right(confusion: Mapping[str, Mapping[str, int]], labels: Sequence[str]) -> float | None:
    count = sum(sum(confusion[label].values()) for label in labels)
    return sum(confusion[label].get(label, 0) for label in labels) / count if count else None


def provenance() -> Provenance:
    """The machine, the packages that decide what comes out, and the commit that runs."""
    return Provenance(
        machine=_machine(),
        versions={"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        commit=_commit(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _machine() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "-"


@cache
def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return "-"
    command = [git, "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "-"  # noqa: S603
