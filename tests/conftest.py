"""The fixtures of `tests/support`, for every suite."""

import os

import pytest

# One thread: two cores are shared with the servers, and OpenMP barriers stall when both are busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

pytest.register_assert_rewrite("tests.support")
pytest_plugins = ("tests.support.servers", "tests.support.models", "tests.support.engines")
