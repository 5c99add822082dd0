"""Checks the adapter that a training would make, before it is trained."""

from collections.abc import Collection
from math import prod
from typing import Any

from shared.adapter_files.check import AdapterLimits, check_size, expected_tensors
from shared.adapter_files.config import check_config, check_rank
from shared.adapter_files.shapes import BaseShapes, layer_number
from shared.adapter_files.targets import Targets
from shared.contracts.training_settings import LoraSettings
from shared.errors import Invalid

_BYTES_A_NUMBER = 4
"""Weights are trained and stored in float32."""


def check_planned(settings: LoraSettings, base: BaseShapes, limits: AdapterLimits) -> None:
    """Raise `Invalid` where the store would refuse the adapter that these settings make on this base model."""
    check_trainable(settings, base)
    for target in _targets(settings, base):
        if not base.targeted(target, _layers(settings, base)):
            raise _unknown(target, base)
    config = _config(settings, base)
    try:
        check_config(config)
        check_rank(config["r"], limits.max_rank)
        check_size(_BYTES_A_NUMBER * sum(map(prod, expected_tensors(config, base).values())), limits)
    except Invalid as error:
        twice = "; pissa is stored with twice its rank" if settings.method == "pissa" else ""
        raise Invalid(
            error.code, f"the adapter of these settings could not be stored: {error.detail}{twice}"
        ) from error


def planned_ranks(settings: LoraSettings, base: BaseShapes) -> dict[str, int]:
    """Return the rank of each module that such a training adapts, as it is stored."""
    return {module: size.rank for module, size in Targets(_config(settings, base), base).sizes.items()}


def check_trainable(settings: LoraSettings, base: BaseShapes) -> None:
    """Raise `Invalid` where no LoRA can be trained with these settings on this base model."""
    targets, layers = _targets(settings, base), _layers(settings, base)
    modules = [module for target in targets for module in base.targeted(target, layers)]
    if not modules:
        raise _unknown(targets[0], base)
    narrowest = min(min(base.modules[module]) for module in modules)
    if settings.method == "pissa" and settings.rank > narrowest:
        raise Invalid(
            "rank_too_large",
            f"a layer of width {narrowest} has no more principal components: take rank {narrowest} or less with pissa",
        )


def _unknown(target: str, base: BaseShapes) -> Invalid:
    known = ", ".join(sorted({name.rpartition(".")[2] for name in base.modules}))
    return Invalid(
        "target_modules_unknown",
        f"the base model has no linear layer {target!r} in the layers to train; it has {known}: name these in "
        "target_modules, or take all-linear",
    )


def _config(settings: LoraSettings, base: BaseShapes) -> dict[str, Any]:
    """Return what PEFT writes after such a training; a PiSSA adapter is stored as plain LoRA of twice the rank."""
    twice = 2 if settings.method == "pissa" else 1
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": twice * settings.rank,
        "lora_alpha": twice * settings.alpha,
        "target_modules": _shortest(_targets(settings, base), base),
        "layers_to_transform": _layers(settings, base),
        "use_dora": settings.method == "dora",
    }


def _targets(settings: LoraSettings, base: BaseShapes) -> list[str]:
    if settings.target_modules == "all-linear":
        return sorted({name.rpartition(".")[2] for name in base.modules if layer_number(name) is not None})
    return list(settings.target_modules)


def _shortest(targets: Collection[str], base: BaseShapes) -> list[str]:
    """Return the targets as PEFT writes them: one name for all modules that end in it, if all of them are targets."""
    named = {module for target in targets for module in base.targeted(target)}
    short = {target: target.rpartition(".")[2] for target in targets}
    return sorted({short[target] if named.issuperset(base.targeted(short[target])) else target for target in targets})


def _layers(settings: LoraSettings, base: BaseShapes) -> list[int] | None:
    layers = sorted({number for name in base.modules if (number := layer_number(name)) is not None})
    count = settings.top_layers
    return None if count is None or count >= len(layers) else layers[-count:]
