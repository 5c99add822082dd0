"""Masks of attention that a caller makes itself, as the layers of each model family take them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, dtype
    from transformers import PreTrainedModel

_FULL, _SLIDING = "full_attention", "sliding_attention"


def additive_mask(
    model: "PreTrainedModel", allowed: "Tensor", positions: "Tensor", keys: "Tensor", number_type: "dtype"
) -> Any:
    """Return what `attention_mask` of a forward pass takes for these tokens: a tensor, or one by the kind of layer.

    `allowed` `[batch, tokens, all]` says what each token may attend to, `positions` `[batch, tokens]` and `keys`
    `[batch, all]` are those in their text. A model takes such a mask as it is, so the window of layers that see the
    last tokens alone is cut out here.
    """
    config = model.config.get_text_config()
    window: int | None = getattr(config, "sliding_window", None)
    if window is None:
        return _additive(allowed, number_type, model)
    near = positions.unsqueeze(-1) - keys.unsqueeze(1) < window
    found = {_FULL: allowed, _SLIDING: allowed & near}
    kinds = sorted({*(getattr(config, "layer_types", None) or [_SLIDING])})
    masks = {kind: _additive(found[kind], number_type, model) for kind in kinds}
    # Where all layers are alike, some families take a mask alone, and no mapping.
    return masks if len(masks) > 1 else masks[kinds[0]]


def _additive(allowed: "Tensor", number_type: "dtype", model: "PreTrainedModel") -> "Tensor":
    import torch

    blocked = torch.finfo(number_type).min  # finite: a padding row that attends to nothing must not become NaN
    mask = torch.zeros(allowed.shape, dtype=number_type).masked_fill_(~allowed, blocked)
    return mask.unsqueeze(1).to(model.device)
