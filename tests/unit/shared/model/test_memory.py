"""Freed weights leave the process at once."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from shared.model.memory import separate_mappings

MIB = 1 << 20


def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc; other systems have other allocators")
def test_weights_loaded_into_separate_mappings_leave_no_gaps_when_every_second_one_is_freed():
    np.ones(16 * MIB, dtype=np.uint8)  # freed at once: from now on glibc takes smaller blocks from a heap
    with separate_mappings():
        weights = [np.ones(MIB, dtype=np.uint8) for _ in range(128)]
    before = resident_mib()
    del weights[::2]
    assert before - resident_mib() > 60
