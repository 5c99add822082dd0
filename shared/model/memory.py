"""Lets unused memory return to the operating system, where the C library is glibc."""

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # numbers of `mallopt`'s parameters, from malloc.h
_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")
_LARGEST_IN_HEAP = 8 << 20
"""Above the buffers of a forward pass of a small model, and less than glibc's own maximum of 32 MiB."""


def return_free_memory() -> None:
    """Return this process's free memory to the operating system, where the C library supports it.

    glibc keeps freed blocks that lie below a used one: a trainer stayed at 7 GiB after a job that had needed that much,
    and the next process on the machine got none.
    """
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()  # other processes on the same GPU may need it
    trim_heaps()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a card or the machine had too little memory: for a card torch raises a kind of RuntimeError."""
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _OUT_OF_MEMORY)


def trim_heaps() -> None:
    """Return the free pages of the heaps to the operating system; takes milliseconds."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@contextlib.contextmanager
def separate_mappings() -> Iterator[None]:
    """Give each block of 64 KiB or more that is allocated meanwhile a mapping of its own, which ends when it is freed.

    For weights, which are freed in another order than they are allocated: in a shared heap, the next model's weights
    leave gaps among those of the former one. Other threads' blocks are treated alike. Afterwards blocks come from heaps
    again, because a computation would pay for fresh pages at every step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        yield
        return
    mallopt(_MMAP_THRESHOLD, 64 << 10)
    try:
        yield
    finally:
        mallopt(_MMAP_THRESHOLD, _LARGEST_IN_HEAP)
        mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_IN_HEAP)
