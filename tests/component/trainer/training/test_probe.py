"""The speed that a trainer guesses before its first step."""

import os
import subprocess
import sys

import pytest
import torch

from services.trainer.training.probe import _product_speed

SHAPE = (768, 768)


@pytest.fixture
def others():
    """Processes that take every core."""
    program = "print(flush=True)\nwhile True: pass"
    started = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(3 * os.cpu_count())
    ]
    for process in started:
        process.stdout.readline()
    yield
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_other_processes_hardly_change_the_speed_that_is_found(two_threads, request):
    alone = _product_speed(SHAPE, torch.float32)
    request.getfixturevalue("others")
    assert _product_speed(SHAPE, torch.float32) > alone / 4  # threads that wait for each other: a tenth and less
    assert torch.get_num_threads() == 2
