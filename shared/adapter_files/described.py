"""Says in a config's words which modules have a LoRA of which size."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from shared.adapter_files.config import MAX_LAYERS
from shared.adapter_files.shapes import BaseShapes, layer_number
from shared.adapter_files.targets import Size, Targets, containers


def described(sizes: Mapping[str, Size], base: BaseShapes) -> dict[str, Any]:
    """Return the keys of a config that give exactly these modules these sizes; the commonest size is the default."""
    default = Size(_commonest(size.rank for size in sizes.values()), _commonest(size.alpha for size in sizes.values()))
    about_sizes = {
        "r": default.rank,
        "lora_alpha": default.alpha,
        "rank_pattern": {name: size.rank for name, size in sizes.items() if size.rank != default.rank},
        "alpha_pattern": {name: size.alpha for name, size in sizes.items() if size.alpha != default.alpha},
    }
    return {**about_sizes, **_shortest(sizes.keys(), base)}


def _commonest(values: Any) -> Any:
    return max(Counter(values).items(), key=lambda item: (item[1], item[0]))[0]


def _shortest(modules: Collection[str], base: BaseShapes) -> dict[str, Any]:
    """Return the fewest names that stand for these modules alone: last parts, those of some layers, or whole names."""
    holding = {name.rpartition(".")[2] for name in containers(base.modules)}
    last = sorted({module.rpartition(".")[2] for module in modules})
    layers = sorted({layer for module in modules if (layer := layer_number(module)) is not None and layer < MAX_LAYERS})
    tries: list[dict[str, Any]] = [
        {"target_modules": last},
        {"target_modules": last, "layers_to_transform": layers},
    ]
    for words in tries:
        config = {"r": 1, "lora_alpha": 1, **words}
        if holding.isdisjoint(last) and Targets(config, base).sizes.keys() == set(modules):
            return words
    return {"target_modules": sorted(modules)}
