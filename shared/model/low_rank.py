"""A selector's LoRA, read from its PEFT folder and merged into one weight at a time."""

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME
from shared.errors import Invalid
from shared.model.head import HEAD_WEIGHT

if TYPE_CHECKING:
    from torch import Tensor

_PREFIX = "base_model.model."
_A, _B, _MAGNITUDE = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"
_PATTERNS = ("rank_pattern", "alpha_pattern", "fan_in_fan_out", "lora_bias")
"""PEFT settings that change the shapes or scalings of modules; the trainer sets none of them."""


class LowRank(NamedTuple):
    """The LoRA of one weight: `W + scaling * B A`, with its rows rescaled to DoRA's magnitude where there is one."""

    a: "Tensor"  # [rank, in]
    b: "Tensor"  # [out, rank]
    magnitude: "Tensor | None"  # [out]
    scaling: float

    def merged(self, weight: "Tensor") -> "Tensor":
        """Return the merged weight, `[out, in]` float32; raises `Invalid` for a weight of another shape."""
        if weight.shape != (self.b.shape[0], self.a.shape[1]):
            raise _does_not_fit(f"a weight is {tuple(weight.shape)}")
        merged = weight.float() + (self.b.float() @ self.a.float()) * self.scaling
        if self.magnitude is not None:  # Liu et al. 2024, equation 5
            merged *= (self.magnitude.float() / merged.norm(dim=1))[:, None]
        if not merged.isfinite().all():
            raise _does_not_fit("a merged weight is not finite")
        return merged


class SelectorLora(NamedTuple):
    """A selector's LoRA by the names of the weights that it changes, and its head `[labels, hidden]` if it has one."""

    weights: Mapping[str, LowRank]
    head: "Tensor | None"


def read_lora(folder: Path, weight_names: Collection[str]) -> SelectorLora | None:
    """Read a PEFT folder; returns None where it is not plain LoRA, or changes a weight not in `weight_names`."""
    from safetensors.torch import load_file

    config: dict[str, Any] = json.loads((folder / CONFIG_NAME).read_text())
    tensors = load_file(folder / WEIGHTS_NAME)
    head = tensors.pop(HEAD_WEIGHT, None)
    modules = [name.removesuffix(_A) for name in tensors if name.endswith(_A)]
    parts = {
        module + part for module in modules for part in (_A, _B, *([_MAGNITUDE] if config.get("use_dora") else []))
    }
    targets = tuple(f".{target}" for target in config["target_modules"])
    is_plain = parts == tensors.keys() and not any(config.get(name) for name in _PATTERNS)
    if not is_plain or not all(module.endswith(targets) for module in modules):
        return None
    scaling = config["lora_alpha"] / (math.sqrt(config["r"]) if config.get("use_rslora") else config["r"])
    weights = {
        f"{module.removeprefix(_PREFIX)}.weight": LowRank(
            tensors[module + _A], tensors[module + _B], tensors.get(module + _MAGNITUDE), scaling
        )
        for module in modules
    }
    return SelectorLora(weights, head) if weights.keys() <= set(weight_names) else None


def _does_not_fit(why: str) -> Invalid:
    return Invalid("adapter_invalid", f"the weights do not load onto this base model ({why}): train them on it")
