"""The fixtures of `tests/support` for every suite, and what runs beside what."""

import os
from pathlib import Path

import pytest

# One thread: two cores are shared with the servers, and OpenMP barriers stall when both are busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

pytest.register_assert_rewrite("tests.support")
pytest_plugins = ("tests.support.servers", "tests.support.models", "tests.support.engines")

WHOLE_SYSTEMS = {"system", "chaos"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Modules stay together, and whole systems, which fill both cores, run one after the other, before all else."""
    rooms = {item: item.path.relative_to(Path(__file__).parent).parts[0] for item in items}
    items.sort(key=lambda item: rooms[item] not in WHOLE_SYSTEMS)
    for item in items:
        group = "whole systems" if rooms[item] in WHOLE_SYSTEMS else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
