"""Checks an adapter folder against a base model, before PEFT loads it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Self

from shared.adapter_files.config import check_config, read_config
from shared.adapter_files.folder import CONFIG_NAME, WEIGHTS_NAME, check_folder
from shared.adapter_files.shapes import BaseShapes, layer_number
from shared.adapter_files.tensors import TensorSpan, check_finite, check_spans, read_header
from shared.errors import Invalid
from shared.settings import Settings

_TENSOR_NAME = re.compile(
    r"base_model\.model\.(?P<module>.+)\.(?P<part>lora_A\.weight|lora_B\.weight|lora_magnitude_vector)"
)
_ANY_LORA = re.compile(
    r"(?P<module>.+)\.lora_(?:A|B|magnitude_vector)(?:\.(?!weight\Z)(?P<adapter>[^.]+))?(?:\.weight)?"
)


@dataclass(frozen=True, slots=True)
class AdapterLimits:
    """The limits of a deployment for adapters."""

    max_rank: int = 256
    max_bytes: int = 256 << 20

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those of the operator's settings."""
        return cls(settings.max_adapter_rank, settings.max_upload_bytes)


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """The properties of an accepted adapter; `method` is lora, rslora, dora or rsdora."""

    rank: int
    alpha: float
    method: str
    target_modules: tuple[str, ...]
    parameter_count: int
    size_bytes: int


def check_adapter(folder: Path, base: BaseShapes, limits: AdapterLimits) -> AdapterInfo:
    """Check files, config, tensors and numbers against the base model; raises `Invalid`, which names the remedy."""
    check_folder(folder)
    weights = folder / WEIGHTS_NAME
    size_bytes = weights.stat().st_size
    check_size(size_bytes, limits)
    config = read_config(folder / CONFIG_NAME)
    check_config(config, limits.max_rank)
    spans = read_header(weights)
    check_spans(spans, size_bytes)
    _check_tensors(spans, expected_tensors(config, base))
    check_finite(weights, spans)
    return AdapterInfo(
        rank=config["r"],
        alpha=float(config["lora_alpha"]),
        method=f"{'rs' if config.get('use_rslora') else ''}{'dora' if config.get('use_dora') else 'lora'}",
        target_modules=tuple(sorted(config["target_modules"])),
        parameter_count=sum(prod(span.shape) for span in spans.values()),
        size_bytes=size_bytes,
    )


def check_size(size_bytes: int, limits: AdapterLimits) -> None:
    """Raise `Invalid` where there are more bytes of weights than the limits allow."""
    if size_bytes > limits.max_bytes:
        raise Invalid("adapter_too_large", f"{size_bytes} bytes of weights are above the limit of {limits.max_bytes}")


def expected_tensors(config: dict[str, Any], base: BaseShapes) -> dict[tuple[str, str], tuple[int, ...]]:
    """Return the shape of every tensor that PEFT will look for, by module and part."""
    rank = config["r"]
    expected: dict[tuple[str, str], tuple[int, ...]] = {}
    for module in _modules(config["target_modules"], config.get("layers_to_transform"), base):
        out, into = base.modules[module]
        expected[module, "lora_A.weight"] = (rank, into)
        expected[module, "lora_B.weight"] = (out, rank)
        if config.get("use_dora"):
            expected[module, "lora_magnitude_vector"] = (out,)
    return expected


def _modules(targets: Iterable[str], layers: list[int] | None, base: BaseShapes) -> set[str]:
    found: set[str] = set()
    for target in targets:
        modules = base.targeted(target, layers)
        if not modules:
            raise Invalid("adapter_base_mismatch", f"the base model has no linear layer {target!r}: train on this base")
        found.update(modules)
    return found


def _check_tensors(spans: dict[str, TensorSpan], expected: dict[tuple[str, str], tuple[int, ...]]) -> None:
    modules = {module for module, _ in expected}
    found = {_parse(name, modules): (name, span) for name, span in spans.items()}
    for key, (name, span) in found.items():
        _check_shape(key, name, span, expected)
    missing = [key for key in expected if key not in found]
    if missing:
        raise Invalid(
            "adapter_weights_incomplete",
            f"{len(missing)} tensors are missing, the first is {'.'.join(missing[0])}: save the whole adapter",
        )


def _parse(name: str, modules: set[str]) -> tuple[str, str]:
    match = _TENSOR_NAME.fullmatch(name)
    if match is None or match["module"] not in modules:
        raise _foreign(name, modules)
    return match["module"], match["part"]


def _foreign(name: str, modules: set[str]) -> Invalid:
    """Return the refusal of a tensor whose name PEFT would not look for."""
    match = _ANY_LORA.fullmatch(name)
    if match and match["adapter"]:
        return Invalid(
            "adapter_tensor_unknown",
            f"{name[:128]!r} holds the adapter's name, {match['adapter'][:64]!r}, as a state_dict does: save with "
            "save_pretrained of PEFT, which leaves it out",
        )
    if match is None or match["module"] in {f"base_model.model.{module}" for module in modules}:
        return Invalid("adapter_tensor_unknown", f"{name[:128]!r} is no LoRA weight: save the adapter alone, with PEFT")
    if meant := sorted(module for module in modules if _is_end(module, match["module"])):
        return Invalid(
            "adapter_tensor_unknown",
            f"{name[:128]!r} has another prefix than base_model.model.{meant[0]}: load the base by "
            "AutoModelForCausalLM and save with save_pretrained of PEFT, or rename the tensors",
        )
    return Invalid(
        "adapter_base_mismatch", f"{name[:128]!r} belongs to no target module of this base model: train on this base"
    )


def _is_end(module: str, other: str) -> bool:
    """Whether one of two modules is the end of the other, the number of its layer included."""
    short, long = sorted((module, other.removeprefix("base_model.model.")), key=len)
    return layer_number(short) is not None and f".{long}".endswith(f".{short}")


def _check_shape(
    key: tuple[str, str], name: str, span: TensorSpan, expected: dict[tuple[str, str], tuple[int, ...]]
) -> None:
    if key not in expected:
        raise Invalid("adapter_tensor_unknown", f"{name[:128]!r} does not go with the config's method")
    if span.shape == expected[key]:
        return
    rank_axis = 0 if key[1] == "lora_A.weight" else 1
    if len(span.shape) == 2 and span.shape[1 - rank_axis] == expected[key][1 - rank_axis]:
        raise Invalid("adapter_rank_mismatch", f"{name} is {list(span.shape)}, the config's rank asks {expected[key]}")
    raise Invalid(
        "adapter_base_mismatch",
        f"{name} is {list(span.shape)}, this base model needs {list(expected[key])}: wrong base",
    )
