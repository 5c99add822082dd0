"""What locks a data folder sets the umask of the process."""

import os

import pytest


@pytest.fixture(autouse=True)
def same_umask_after():
    before = os.umask(0o022)
    yield
    os.umask(before)
