"""The base model's matrix products: one for all layers that share an input, with the weight packed for the CPU."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_USUAL_ROWS = 32
"""Rows that a packed weight is optimised for; any number works."""


class BaseLinear:
    """`x W^T + bias` over the fused layers; if the weight is packed, the layers' own copies are freed."""

    def __init__(self, linears: Sequence[nn.Linear], *, is_shared: bool = False) -> None:
        weight = linears[0].weight.data if len(linears) == 1 else torch.cat([linear.weight.data for linear in linears])
        self.bias = _fused_bias(linears)
        self._packed = _pack(weight)
        self._weight = weight if self._packed is None else weight.new_empty(0)
        if is_shared:  # the embedding still needs the weight
            return
        for linear, part in zip(linears, weight.split([linear.out_features for linear in linears]), strict=True):
            linear.weight.data = part if self._packed is None else weight.new_empty(0)

    @property
    def weight(self) -> Tensor:
        """The fused weight [outs, in]; a packed weight is unpacked for the caller."""
        return self._weight if self._packed is None else self._packed.to_dense()

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply x [..., in]; returns [..., outs]."""
        if self._packed is not None:
            y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
            return y
        return nn.functional.linear(x, self._weight, self.bias)


def _pack(weight: Tensor) -> Tensor | None:
    """The weight in oneDNN's layout, which torch's `linear` would rebuild in every call; None if that saves nothing."""
    is_fit = weight.device.type == "cpu" and weight.dtype == torch.bfloat16
    if not is_fit or not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return None
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, _USUAL_ROWS)
    return packed


def _fused_bias(linears: Sequence[nn.Linear]) -> Tensor | None:
    if all(linear.bias is None for linear in linears):
        return None
    return torch.cat([_bias(linear) for linear in linears])


def _bias(linear: nn.Linear) -> Tensor:
    return linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias.data
