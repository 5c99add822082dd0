"""The base model's own products: one for all layers that share an input, its weight in the order the machine likes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_USUAL_ROWS = 32
"""Rows that a packed weight is laid out for; it serves any number."""


class BaseLinear:
    """`x W^T + bias` over the fused layers. Where the weight is packed, the layers' own copies are given up."""

    def __init__(self, linears: Sequence[nn.Linear], *, is_shared: bool = False) -> None:
        weight = linears[0].weight.data if len(linears) == 1 else torch.cat([linear.weight.data for linear in linears])
        self.bias = _fused_bias(linears)
        self._packed = _pack(weight)
        self._weight = weight if self._packed is None else weight.new_empty(0)
        if is_shared:  # with the embedding
            return
        for linear, part in zip(linears, weight.split([linear.out_features for linear in linears]), strict=True):
            linear.weight.data = part if self._packed is None else weight.new_empty(0)

    @property
    def weight(self) -> Tensor:
        """The fused weight [outs, in]; unpacked for this caller where it is packed."""
        return self._weight if self._packed is None else self._packed.to_dense()

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply x [..., in]; answers [..., outs]."""
        if self._packed is not None:
            y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
            return y
        return nn.functional.linear(x, self._weight, self.bias)


def _pack(weight: Tensor) -> Tensor | None:
    """The weight in oneDNN's own order, which torch's plain `linear` would make anew in every call; None if no gain."""
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
