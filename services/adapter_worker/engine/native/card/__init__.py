"""The engine's path on a card, by kernels of Triton; it is imported where there is a card, or a test runs it."""

from importlib.util import find_spec

import structlog
import torch

log = structlog.get_logger()


def is_served_by_kernels(device: torch.device) -> bool:
    """Whether a model on this device runs by these kernels; without Triton, torch does their work."""
    if device.type != "cuda":
        return False
    if find_spec("triton") is None:
        log.warning("triton_missing", effect="torch does the work of the kernels, many times slower")
        return False
    return True
