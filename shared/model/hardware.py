"""Adapts torch to the processor: the number of threads, and the number type that it computes in hardware.

The number of threads is a setting, because on shared cores OpenMP barriers make two threads slower than one.
"""

from shared.settings import Settings


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


def bucketed(width: int, device: str) -> int:
    """Return to how many tokens a batch is padded: on cards a multiple of 64, elsewhere no more than it needs.

    For each shape that it has not seen, a card's library makes a plan, and its allocator another block.
    """
    return -(-width // 64) * 64 if device == "cuda" else width
