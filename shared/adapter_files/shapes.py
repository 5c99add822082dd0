"""The shapes of the base model's linear layers, read without torch; adapters are checked against them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from shared.adapter_files.tensors import read_header
from shared.errors import Invalid

_WEIGHT = ".weight"
_EMBEDDINGS = ("embed", "wte", "wpe")  # two-dimensional tensors that are no linear layers; LoRA does not wrap them here


@dataclass(frozen=True, slots=True)
class BaseShapes:
    """Linear modules of the base model: full name -> (out, in)."""

    modules: Mapping[str, tuple[int, int]]

    @classmethod
    def from_folder(cls, base_folder: Path) -> Self:
        """Read the headers of the folder's safetensors files; raises `Invalid` where there are none."""
        modules: dict[str, tuple[int, int]] = {}
        for file in sorted(base_folder.glob("*.safetensors")):
            for name, span in read_header(file, "base_model_invalid").items():
                if name.endswith(_WEIGHT) and len(span.shape) == 2 and not is_embedding(name.removesuffix(_WEIGHT)):
                    modules[name.removesuffix(_WEIGHT)] = (span.shape[0], span.shape[1])
        if not modules:
            raise Invalid("base_model_invalid", f"{base_folder.name!r} holds no linear layers in *.safetensors files")
        return cls(modules)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Undo `to_dict`."""
        return cls({name: (int(out), int(into)) for name, (out, into) in value.items()})

    def to_dict(self) -> dict[str, list[int]]:
        """Return plain JSON values: name -> [out, in]."""
        return {name: list(shape) for name, shape in self.modules.items()}

    def targeted(self, target: str, layers: Collection[int] | None = None) -> list[str]:
        """Return the modules that PEFT matches for one name in `target_modules`, of some layers or of all."""
        named = [name for name in self.modules if name == target or name.endswith(f".{target}")]
        return [name for name in named if not layers or layer_number(name) in layers]


def layer_number(module: str) -> int | None:
    """Return the layer of a module as PEFT does: the last number in its name; None for a module outside the layers."""
    numbers = [part for part in module.split(".") if part.isdecimal()]
    return int(numbers[-1]) if numbers else None


def is_embedding(module: str) -> bool:
    """Whether the last part of a module's name is one that embeddings have."""
    return any(word in module.rpartition(".")[2] for word in _EMBEDDINGS)
