"""Adapts torch to the hardware: the number of threads, and the number type that it computes in.

The number of threads is a setting, because on shared cores OpenMP barriers make two threads slower than one.
"""

from typing import Literal

from shared.settings import Settings

CARD_WIDTH = 64


def limit_threads(settings: Settings) -> None:
    """Limit torch to the number of threads in the settings."""
    import torch

    torch.set_num_threads(settings.torch_threads)


def limit_card(share: float) -> None:
    """Limit this process to a share of the card's memory, where there is a card."""
    import torch

    if share < 1 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(share)


def computes_bfloat16(device: str) -> bool:
    """Whether the hardware multiplies bfloat16, at twice the speed of float32, instead of converting it."""
    import torch

    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = torch.cpu.get_capabilities()
    return any(known.get(feature) for feature in ("avx512_bf16", "amx_bf16", "bf16"))


def training_precision() -> Literal["float32", "bfloat16"]:
    """Return what `precision: auto` stands for here: bfloat16 on a card that multiplies it, else float32."""
    import torch

    # TF32 stays off: cards that would profit from it multiply bfloat16, so float32 is there what a job asked for.
    return "bfloat16" if torch.cuda.is_available() and computes_bfloat16("cuda") else "float32"


def engine_dtype(settings: Settings) -> str:
    """Return the type to compute in: the settings' own, or bfloat16 where the hardware multiplies it."""
    import torch

    if settings.engine_dtype != "auto":
        return settings.engine_dtype
    if torch.cuda.is_available():
        is_native = computes_bfloat16("cuda")
    else:
        is_native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if is_native else "float32"


def width_step(device: str) -> int:
    """Return what widths of batches are a multiple of: a card prepares memory and kernels for each new width anew."""
    return CARD_WIDTH if device == "cuda" else 1


def rounded(count: int, step: int) -> int:
    """Return the next multiple of `step`."""
    return -(-count // step) * step
