"""What the processor is asked to do: how many threads, and which numbers it computes in hardware.

Thread counts are set on purpose: on shared cores OpenMP barriers make two threads slower than one.
"""

from shared.settings import Settings


def limit_threads(settings: Settings) -> None:
    """Let torch use as many threads as the settings say."""
    import torch

    torch.set_num_threads(settings.torch_threads)


def computes_bfloat16(device: str) -> bool:
    """Whether bfloat16 products run in hardware, at twice the speed of float32, not by conversion."""
    import torch

    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = torch.cpu.get_capabilities()
    return any(known.get(feature) for feature in ("avx512_bf16", "amx_bf16", "bf16"))


def engine_dtype(settings: Settings) -> str:
    """The type to compute in: bfloat16 where the machine multiplies it as such, unless the settings name one."""
    import torch

    if settings.engine_dtype != "auto":
        return settings.engine_dtype
    is_native = torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if is_native else "float32"
