"""Freed weights leave the process at once."""

import subprocess
import sys

import pytest

PROGRAM = """
import os
from contextlib import nullcontext
from pathlib import Path
import numpy as np
from shared.model.memory import separate_mappings

def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

np.ones(16 << 20, dtype=np.uint8)  # freed at once: from now on glibc takes smaller blocks from a heap
with {block}():
    weights = [np.ones(1 << 20, dtype=np.uint8) for _ in range(128)]
before = resident_mib()
del weights[::2]
print(before - resident_mib())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc; other systems have other allocators")
@pytest.mark.parametrize(("block", "is_returned"), [("separate_mappings", True), ("nullcontext", False)])
def test_only_weights_in_mappings_of_their_own_leave_no_gaps_when_every_second_one_is_freed(block, is_returned):
    """In a process of its own: an allocator that has free blocks gives these out first."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(block=block)], capture_output=True, text=True, check=True, timeout=60
    )
    assert (int(done.stdout) > 60) is is_returned
