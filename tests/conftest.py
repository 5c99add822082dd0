"""The fixtures of `tests/support` for every suite, and what runs beside what."""

import os

import pytest

# One thread: two cores are shared with the servers, and OpenMP barriers stall when both are busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# The kernels for a card are interpreted, which Triton decides as it is imported.
os.environ.setdefault("TRITON_INTERPRET", "1")

pytest.register_assert_rewrite("tests.support")
pytest_plugins = ("tests.support.servers", "tests.support.models", "tests.support.engines")

WHOLE_SYSTEMS = ("tests/system/", "tests/chaos/", "tests/console/")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Whole systems, which fill both cores, come before all else."""
    items.sort(key=lambda item: not item.nodeid.startswith(WHOLE_SYSTEMS))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Modules stay together, and whole systems run one after the other, in one process."""
    from xdist.scheduler import LoadScopeScheduling

    class Rooms(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return "whole systems" if nodeid.startswith(WHOLE_SYSTEMS) else nodeid.partition("::")[0]

    return Rooms(config, log)
