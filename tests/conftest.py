"""The fixtures of `tests/support` for every suite, and what runs beside what."""

import os

import pytest

# One thread: two cores are shared with the servers, and OpenMP barriers stall when both are busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

pytest.register_assert_rewrite("tests.support")
pytest_plugins = ("tests.support.servers", "tests.support.models", "tests.support.engines")

WHOLE_SYSTEMS = ("tests/system/", "tests/chaos/")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Modules stay together, and whole systems, which fill both cores, run one after the other, before all else."""
    items.sort(key=lambda item: not item.nodeid.startswith(WHOLE_SYSTEMS))
    for item in items:
        is_system = item.nodeid.startswith(WHOLE_SYSTEMS)
        item.add_marker(pytest.mark.xdist_group("whole systems" if is_system else item.nodeid.partition("::")[0]))
