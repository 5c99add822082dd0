"""What a step that raised means: a fault of a request, a want of memory, or the end of the engine."""

import traceback

import torch

from services.adapter_worker.engine.base import EngineAway, EngineLost
from shared.errors import SignalboxError

MOST_OUT_OF_MEMORY = 3
"""So many steps of one row without memory, and none with it between them, end the engine: a new process has all."""


class StepFaults:
    """Counts the steps in which one row alone found no memory."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._out_of_memory = 0

    def forget(self) -> None:
        """Note a step that succeeded."""
        self._out_of_memory = 0

    def of(self, error: Exception, *, rows: int) -> SignalboxError:
        """Return the error for the requests of a step of so many rows; raises `EngineLost` where none is the cause."""
        failed = step_error(error)
        if isinstance(failed, EngineLost):
            raise failed from error
        if isinstance(failed, EngineAway):
            if self._device.type == "cuda":
                traceback.clear_frames(error.__traceback__)  # the failed step's tensors are in them
                torch.cuda.empty_cache()
            self._out_of_memory += rows == 1
        if self._out_of_memory >= MOST_OUT_OF_MEMORY:
            raise EngineLost("engine_out_of_memory", "the engine has no memory for one row, again and again") from error
        return failed


def step_error(error: Exception) -> SignalboxError:
    """Return the error for the requests of a failed step; `EngineLost` where the device computes nothing any more."""
    if isinstance(error, torch.AcceleratorError):  # sticky: each later call would raise it again
        return EngineLost("engine_device_failed", f"the device failed: {error}")
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return EngineAway("engine_out_of_memory", "the worker ran out of memory in this step; send the job again")
    return SignalboxError(
        "engine_step_failed", f"the model step failed, send the job again: {type(error).__name__}: {error}"
    )
