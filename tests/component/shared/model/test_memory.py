"""What a process holds after work that needed much."""

import ctypes

import psutil
import pytest

from shared.model.memory import return_free_memory

MIB = 1 << 20


def resident():
    return psutil.Process().memory_info().rss


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="no glibc")
def test_what_was_freed_below_a_block_in_use_goes_back():
    return_free_memory()
    before = resident()
    blocks = [bytearray(4096) for _ in range(40_000)]
    pin = blocks[-1]  # the heap cannot shrink below it
    del blocks
    held = resident()
    assert held - before > 120 * MIB  # the fault is there: freed, and kept all the same
    return_free_memory()
    assert held - resident() > 100 * MIB
    assert len(pin) == 4096
