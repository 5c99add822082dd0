"""Names of tensors as training tools write them, told as the names that PEFT looks for."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from shared.adapter_files.shapes import BaseShapes, is_embedding
from shared.adapter_files.targets import trained_embeddings
from shared.errors import Invalid

PREFIX = "base_model.model."
A, B, MAGNITUDE = "lora_A.weight", "lora_B.weight", "lora_magnitude_vector"
_LORA = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_[AB]|lora_magnitude_vector)(?:\.(?!weight\Z)(?P<adapter>[^.]+))?(?:\.weight)?"
)
_WRAPPERS = frozenset({"base_model", "model", "module", "language_model", "_orig_mod", "_fsdp_wrapped_module"})
"""What training tools, compilers and vision-language models put around a model."""
_INSIDE = frozenset({"_orig_mod", "_fsdp_wrapped_module"})
_MLX = re.compile(r".+\.lora_[ab]")
_SHOWN = 128
_REPLACES = ".modules_to_save."


class Tensor(NamedTuple):
    """What a tensor is in an adapter: a part of a linear module's LoRA."""

    module: str
    part: str

    @property
    def name(self) -> str:
        """The name that PEFT gives it in a file."""
        return f"{PREFIX}{self.module}.{self.part}"


def lora_tensors(names: Collection[str], base: BaseShapes) -> dict[str, Tensor]:
    """Return what each tensor of a file is, by its name there; raises `Invalid` where a name leaves a doubt."""
    _refuse_other_formats(names)
    modules = _Modules(base)
    found = {name: _tensor(name, modules) for name in names}
    adapters = sorted({match["adapter"] or "" for name in names if (match := _LORA.fullmatch(name))} - {""})
    if len(adapters) > 1:
        raise _unknown(f"the file holds several adapters, {adapters[0][:64]!r} and {adapters[1][:64]!r}: save one")
    twice, count = Counter(found.values()).most_common(1)[0]
    if count > 1:
        raise _unknown(f"{twice.name[:_SHOWN]!r} stands in the file under several names: save the adapter with PEFT")
    return found


def renamed(tensors: Mapping[str, Tensor]) -> str:
    """Return a note on the tensors whose name differs from PEFT's, or ""."""
    other = [name for name, tensor in tensors.items() if name != tensor.name]
    return f"{len(other)} tensors are renamed, such as {other[0][:_SHOWN]}" if other else ""


class _Modules:
    """The linear modules of a base model, by their name without what is put around models."""

    def __init__(self, base: BaseShapes) -> None:
        self._names = frozenset(base.modules)
        self._by_core: dict[str, list[str]] = {}
        for name in base.modules:
            self._by_core.setdefault(_core(name), []).append(name)

    def meant(self, path: str) -> str | None:
        """Return the one module that a tensor's path can mean."""
        exact = path.removeprefix(PREFIX)
        if path != exact and exact in self._names:
            return exact
        found = self._by_core.get(_core(path), [])
        return found[0] if len(found) == 1 else None


def _core(path: str) -> str:
    parts = path.split(".")
    first = next((n for n, part in enumerate(parts) if part not in _WRAPPERS), len(parts))
    return ".".join(part for part in parts[first:] if part not in _INSIDE)


def _tensor(name: str, modules: _Modules) -> Tensor:
    match = _LORA.fullmatch(name)
    if match is None or (match["part"] != MAGNITUDE and not name.endswith(".weight")):
        raise _no_lora(name)
    module = modules.meant(match["module"])
    if module is None:
        if is_embedding(match["module"]) or match["module"].endswith("lm_head"):
            raise trained_embeddings(match["module"].removeprefix(PREFIX)[:_SHOWN])
        raise Invalid(
            "adapter_base_mismatch",
            f"{name[:_SHOWN]!r} belongs to no linear layer of this base model: train on this one",
        )
    return Tensor(module, MAGNITUDE if match["part"] == MAGNITUDE else f"{match['part']}.weight")


def _no_lora(name: str) -> Invalid:
    module = name.removesuffix(".weight").removeprefix(PREFIX)
    if is_embedding(module) or "lora_embedding_" in name or module.endswith("lm_head") or _REPLACES in name:
        return trained_embeddings(module[:_SHOWN])
    if name.endswith(".bias"):
        return _unknown(
            f"{name[:_SHOWN]!r} is a trained bias: train with bias none, or merge the adapter and serve a base "
            "model of its own"
        )
    return _unknown(f"{name[:_SHOWN]!r} is no LoRA weight: save the adapter alone, with PEFT")


def _refuse_other_formats(names: Iterable[str]) -> None:
    if mlx := next((name for name in names if _MLX.fullmatch(name)), None):
        raise Invalid(
            "adapter_format_unknown",
            f"{mlx[:_SHOWN]!r} is MLX's, which stores LoRA transposed: transpose lora_a and lora_b, name them as PEFT "
            "does, or fuse the adapter (mlx_lm.fuse) and serve a base model of its own",
        )


def _unknown(detail: str) -> Invalid:
    return Invalid("adapter_tensor_unknown", detail)
