"""The environment in which figures were measured."""

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lab.reproduce.results_store import Provenance

_PACKAGES = ("torch", "transformers", "peft", "faiss-cpu", "scikit-learn")


def provenance() -> Provenance:
    """The machine, the packages that influence results, and the running commit."""
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
