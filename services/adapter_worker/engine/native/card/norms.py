"""A model's norms as one launch each, where the kernel gives what the module itself gives."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from services.adapter_worker.engine.native.card.launching import INTERPRETED, power_of_two
from services.adapter_worker.engine.native.kernels import triton_norm

_NAME_ENDS = "RMSNorm"
_EPS = ("variance_epsilon", "eps")
_FORMS = [(0.0, True), (0.0, False), (1.0, False)]
"""What is added to the weight, and whether a row is rounded before it is multiplied: Llama, OLMo 2, Gemma."""
_WIDEST = 1 << 14
_ROWS = 64 if INTERPRETED else 1


@torch.no_grad()
def replace_norms(model: nn.Module) -> int:
    """Let each module that is a root mean square norm, by its name and its answers, run as a kernel: so many do."""
    count = 0
    for module in model.modules():
        if type(module).__name__.endswith(_NAME_ENDS):
            fused = _fused(module)
            if fused is not None:
                module.forward = fused
                count += 1
    return count


def _fused(module: Any) -> Callable[[Tensor], Tensor] | None:
    weight, eps = getattr(module, "weight", None), next((getattr(module, n) for n in _EPS if hasattr(module, n)), None)
    if weight is None or eps is None or weight.ndim != 1 or weight.numel() > _WIDEST:
        return None
    sample = torch.randn(1, 3, len(weight), generator=torch.Generator().manual_seed(0)).to(weight)
    said = module(sample).float().cpu()
    errors = {}
    for form in (partial(normalised, weight=weight, eps=eps, offset=offset, is_rounded=r) for offset, r in _FORMS):
        mine = form(sample).float().cpu()
        # A last bit may differ by the order of a sum.
        if torch.allclose(mine, said, rtol=2 * torch.finfo(weight.dtype).eps, atol=1e-6):
            errors[form] = float((mine - said).abs().sum())
    return min(errors, key=lambda form: errors[form], default=None)


def normalised(x: Tensor, *, weight: Tensor, eps: float, offset: float, is_rounded: bool) -> Tensor:
    """Root mean square norm over the last dimension of x [1, rows, dim] or [1, rows, inner, dim] by the kernel."""
    if x.stride(-1) != 1:
        x = x.contiguous()
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    inner, dim = (x.shape[2] if x.ndim == 4 else 1), x.shape[-1]
    rows = x.numel() // dim
    triton_norm.normalise[(-(-rows // _ROWS),)](
        x, weight, y, rows, eps, offset, x.stride(1), x.stride(2), inner=inner, dim=dim, ROWS=_ROWS,
        DIM=power_of_two(dim), IS_ROUNDED=is_rounded,
    )  # fmt: skip
    return y
