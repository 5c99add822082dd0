"""Returns unused memory to the operating system."""

import ctypes
import gc
import sys


def return_free_memory() -> None:
    """Return this process's free memory to the operating system, where the C library supports it.

    glibc keeps freed blocks that lie below a used one: a trainer stayed at 7 GiB after a job that had needed that much,
    and the next process on the machine got none.
    """
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()  # other processes on the same GPU may need it
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
