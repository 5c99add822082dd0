"""Memory that is not in use any more goes back to the machine."""

import ctypes
import gc
import sys


def return_free_memory() -> None:
    """Return what is free inside this process to the system; does nothing where the C library cannot.

    glibc keeps freed blocks below one that is still in use: a trainer stayed at 7 GiB after a job that had needed as
    much, and the next process on the machine got none.
    """
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()  # other processes on the same GPU may need it
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
