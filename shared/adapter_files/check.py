"""Checks an adapter folder against a base model, before PEFT loads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Self

from shared.adapter_files.config import check_config, check_rank, read_config
from shared.adapter_files.folder import CONFIG_NAME, WEIGHTS_NAME, check_folder
from shared.adapter_files.names import MAGNITUDE, A, B, Tensor, lora_tensors
from shared.adapter_files.shapes import BaseShapes
from shared.adapter_files.targets import Size, Targets
from shared.adapter_files.tensors import TensorSpan, check_finite, check_spans, read_header
from shared.errors import Invalid
from shared.settings import Settings


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
    """The properties of an accepted adapter; `method` is lora, rslora, dora or rsdora, `rank` its modules' largest."""

    rank: int
    alpha: float
    method: str
    target_modules: tuple[str, ...]
    parameter_count: int
    size_bytes: int


def check_adapter(folder: Path, base: BaseShapes, limits: AdapterLimits) -> AdapterInfo:
    """Check files, config, tensors and numbers against the base model; raises `Invalid`, which names the remedy.

    What passes is plain LoRA as PEFT itself writes it, and loads in PEFT; `normalise` makes it of what means the same.
    """
    info, spans = check_form(folder, base, limits)
    check_finite(folder / WEIGHTS_NAME, spans)
    return info


def check_form(folder: Path, base: BaseShapes, limits: AdapterLimits) -> tuple[AdapterInfo, dict[str, TensorSpan]]:
    """Do the same without a look at the numbers; returns also where each tensor lies."""
    check_folder(folder)
    weights = folder / WEIGHTS_NAME
    size_bytes = weights.stat().st_size
    check_size(size_bytes, limits)
    config = read_config(folder / CONFIG_NAME)
    check_config(config)
    spans = read_header(weights)
    check_spans(spans, size_bytes)
    rank = max(size.rank for size in Targets(config, base).sizes.values())
    check_rank(rank, limits.max_rank)
    _check_tensors(spans, config, base)
    info = AdapterInfo(
        rank=rank,
        alpha=float(config["lora_alpha"]),
        method=f"{'rs' if config.get('use_rslora') else ''}{'dora' if config.get('use_dora') else 'lora'}",
        target_modules=tuple(sorted(config["target_modules"])),
        parameter_count=sum(prod(span.shape) for span in spans.values()),
        size_bytes=size_bytes,
    )
    return info, spans


def check_size(size_bytes: int, limits: AdapterLimits) -> None:
    """Raise `Invalid` where there are more bytes of weights than the limits allow."""
    if size_bytes > limits.max_bytes:
        raise Invalid(
            "adapter_too_large",
            f"{size_bytes} bytes of weights are above the limit of {limits.max_bytes}: train a smaller rank",
        )


def expected_tensors(config: Mapping[str, Any], base: BaseShapes) -> dict[Tensor, tuple[int, ...]]:
    """Return the shape of every tensor that PEFT will look for."""
    sizes, has_magnitude = Targets(config, base).sizes, bool(config.get("use_dora"))
    return {
        tensor: shape
        for module, size in sizes.items()
        for tensor, shape in parts_of(module, size, base, has_magnitude=has_magnitude).items()
    }


def parts_of(module: str, size: Size, base: BaseShapes, *, has_magnitude: bool) -> dict[Tensor, tuple[int, ...]]:
    """Return the tensors of one module's LoRA, with their shapes."""
    out, into = base.modules[module]
    parts: dict[Tensor, tuple[int, ...]] = {Tensor(module, A): (size.rank, into), Tensor(module, B): (out, size.rank)}
    if has_magnitude:
        parts[Tensor(module, MAGNITUDE)] = (out,)
    return parts


def check_shapes(found: Mapping[Tensor, TensorSpan], expected: Mapping[Tensor, tuple[int, ...]]) -> None:
    """Raise `Invalid` unless every expected tensor is there in its shape, and no other."""
    for tensor, span in found.items():
        if tensor not in expected:
            raise _not_expected(tensor, expected)
        _check_shape(tensor, span.shape, expected[tensor])
    missing = [tensor for tensor in expected if tensor not in found]
    if missing:
        raise Invalid(
            "adapter_weights_incomplete",
            f"{len(missing)} tensors are missing, the first is {missing[0].name}: save the whole adapter",
        )


def _check_tensors(spans: Mapping[str, TensorSpan], config: Mapping[str, Any], base: BaseShapes) -> None:
    tensors = lora_tensors(spans, base)
    if other := next((name for name, tensor in tensors.items() if name != tensor.name), None):
        raise Invalid("adapter_tensor_unknown", f"{other[:128]!r} is no name that PEFT looks for: save it with PEFT")
    check_shapes({tensors[name]: span for name, span in spans.items()}, expected_tensors(config, base))


def _not_expected(tensor: Tensor, expected: Mapping[Tensor, object]) -> Invalid:
    if tensor.module in {known.module for known in expected}:
        return Invalid("adapter_tensor_unknown", f"{tensor.name[:128]!r} does not go with the config's method")
    return Invalid(
        "adapter_base_mismatch",
        f"{tensor.name[:128]!r} belongs to no module that the config targets on this base model, PEFT would leave it "
        "out: name the module in target_modules, or train on this base",
    )


def _check_shape(tensor: Tensor, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if shape == expected:
        return
    what = f"{tensor.name} is {list(shape)}, "
    if len(shape) == 2 and shape[::-1] == expected:
        raise Invalid(
            "adapter_tensor_transposed", f"{what}PEFT stores {list(expected)}: transpose the tensors, or save with PEFT"
        )
    rank_axis = 0 if tensor.part == A else 1
    if len(shape) == len(expected) == 2 and shape[1 - rank_axis] == expected[1 - rank_axis]:
        raise Invalid(
            "adapter_rank_mismatch",
            f"{what}the config's rank asks {list(expected)}: correct r, or the module's entry in rank_pattern",
        )
    raise Invalid(
        "adapter_base_mismatch",
        f"{what}this base model needs {list(expected)}: it belongs to another base model, or to a vocabulary of "
        "another size; train on this one",
    )
