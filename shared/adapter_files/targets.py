"""Which modules of a base model PEFT gives a LoRA for a config, and of which rank and alpha (as PEFT 0.21 does)."""

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from shared.adapter_files.patterns import match_all, of_key, value_of
from shared.adapter_files.shapes import BaseShapes, is_embedding
from shared.errors import Invalid

_ALL_LINEAR = "all-linear"
_LONG_LIST = 20
"""From so many targets on PEFT looks for shorter names that stand for the same modules."""
_OUTPUTS = frozenset({"lm_head", "embed_out", "output_layer"})
"""Output layers, which `all-linear` leaves out."""
# Modules without a linear weight that most base models have; PEFT loads no config that targets one.
_IN_EVERY_LAYER = ("input_layernorm", "post_attention_layernorm", "mlp.act_fn")
_AROUND_LAYERS = ("embed_tokens", "norm", "rotary_emb")


class Size(NamedTuple):
    """Rank and alpha of one module."""

    rank: int
    alpha: float

    def scale(self, *, is_rslora: bool) -> float:
        """Return what B A x is multiplied by (Hu et al. 2022, section 4.1; for rsLoRA: Kalajdzievski 2023)."""
        return self.alpha / (math.sqrt(self.rank) if is_rslora else self.rank)


class Targets:
    """What a config whose values have PEFT's types means on a base model."""

    def __init__(self, config: Mapping[str, Any], base: BaseShapes) -> None:
        self._config = config
        self._linear = list(base.modules)
        self._others = [name for name in _modules_around(self._linear) if name not in base.modules]
        self._found = match_all(self._expressions(), [*self._linear, *self._others])

    @cached_property
    def sizes(self) -> Mapping[str, Size]:
        """The modules that get a LoRA; raises `Invalid` where there is none, or PEFT could not load such a config."""
        if wrong := next((name for name in self._others if not self._is_all and self._is_target(name)), None):
            raise _no_linear_layer(wrong)
        if self._contradicts_itself:
            raise Invalid(
                "adapter_config_invalid",
                "adapter_config.json: target_modules names modules outside layers_to_transform: leave that out",
            )
        found = {name: self._size(name) for name in self._linear if self._is_target(name)}
        if not found:
            raise Invalid("adapter_base_mismatch", f"the base model has no linear layer {self._shown}: {_OF_ANOTHER}")
        return found

    @cached_property
    def nothing(self) -> list[str]:
        """Names in `target_modules` that name no module of this base model."""
        targets = self._config["target_modules"]
        return [] if isinstance(targets, str) else [name for name in targets if not self._names_any(name)]

    @property
    def excludes_any(self) -> bool:
        """Whether `exclude_modules` takes a linear layer away."""
        return any(self._is_excluded(name) for name in self._linear)

    @property
    def _contradicts_itself(self) -> bool:
        """Whether whole names lie outside the layers: PEFT takes them, but for long lists, which it shortens first."""
        targets = self._config["target_modules"]
        is_long = not isinstance(targets, str) and len(set(targets)) >= _LONG_LIST
        return is_long and any(name in targets and not self._is_in_layers(name) for name in self._linear)

    @property
    def _is_all(self) -> bool:
        targets = self._config["target_modules"]
        return isinstance(targets, str) and targets.lower() == _ALL_LINEAR

    @property
    def _shown(self) -> str:
        targets = self._config["target_modules"]
        return repr(targets)[:128] if isinstance(targets, str) else ", ".join(map(repr, targets[:8]))[:128]

    def _expressions(self) -> Iterator[str]:
        for key in ("target_modules", "exclude_modules"):
            text = self._config.get(key)
            if text and isinstance(text, str) and not (key == "target_modules" and self._is_all):
                yield text
        yield from self._layers_patterns
        for key in ("rank_pattern", "alpha_pattern"):
            yield from map(of_key, self._config.get(key) or ())

    @cached_property
    def _layers_patterns(self) -> list[str]:
        patterns = self._config.get("layers_pattern") or []
        named = [patterns] if isinstance(patterns, str) else patterns
        return [rf"(?:|.*?\.){one}\.(?P<idx>\d+)\..*" for one in named]

    def _names_any(self, target: str) -> bool:
        return any(_is_named(name, [target]) for name in (*self._linear, *self._others))

    def _is_target(self, name: str) -> bool:
        targets = self._config["target_modules"]
        if self._is_excluded(name):
            return False
        if self._is_all:
            return name.rpartition(".")[2] not in _OUTPUTS
        if isinstance(targets, str):
            return name in self._found[targets]
        return name in targets or (_is_named(name, targets) and self._is_in_layers(name))

    def _is_excluded(self, name: str) -> bool:
        excluded = self._config.get("exclude_modules") or []
        return name in self._found[excluded] if isinstance(excluded, str) else _is_named(name, excluded)

    def _is_in_layers(self, name: str) -> bool:
        layers = self._config.get("layers_to_transform")
        if layers in (None, []):
            return True
        found = (self._found[pattern][name] for pattern in self._layers_patterns if name in self._found[pattern])
        layer = next(found, "") if self._layers_patterns else _first_layer(name)
        return layer != "" and int(layer) in (layers if isinstance(layers, list) else [layers])

    def _size(self, name: str) -> Size:
        rank, alpha = self._entry("rank_pattern", name, "r"), self._entry("alpha_pattern", name, "lora_alpha")
        return Size(rank, alpha)

    def _entry(self, pattern: str, name: str, default: str) -> Any:
        entries = self._config.get(pattern) or {}
        return next(
            (value for key, value in entries.items() if name in self._found[of_key(key)]), self._config[default]
        )


def _first_layer(module: str) -> str:
    """Return the number of the outermost layer around a module, as PEFT finds it; "" for none."""
    return next((part for part in module.split(".")[2:-1] if part.isdecimal()), "")


def size_of(config: Mapping[str, Any], module: str) -> Size:
    """Return the size of one module's LoRA as a stored config says it, whose patterns have plain keys."""
    rank = value_of(config.get("rank_pattern") or {}, module, config["r"])
    return Size(int(rank), value_of(config.get("alpha_pattern") or {}, module, config["lora_alpha"]))


def containers(modules: Iterable[str]) -> set[str]:
    """Return the modules that hold these."""
    return {".".join(parts[:n]) for name in modules for parts in [name.split(".")] for n in range(1, len(parts))}


def _modules_around(linear: Iterable[str]) -> list[str]:
    """Return modules that are no linear layers: what holds them, and what stands beside them in most models."""
    holding = containers(linear)
    layers = [name for name in holding if name.rpartition(".")[2].isdecimal()]
    roots = {name.rpartition(".")[0].rpartition(".")[0] for name in layers} - {""}
    beside = [f"{layer}.{name}" for layer in layers for name in _IN_EVERY_LAYER]
    return sorted({*holding, *beside, *(f"{root}.{name}" for root in roots for name in _AROUND_LAYERS)})


def _is_named(name: str, targets: Iterable[str]) -> bool:
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _no_linear_layer(name: str) -> Invalid:
    if is_embedding(name):
        return trained_embeddings(name)
    return Invalid(
        "adapter_config_invalid",
        f"adapter_config.json: target_modules takes in {name!r}, which is no linear layer: list linear layers alone",
    )


_OF_ANOTHER = "it belongs to another base model; train on this one"


def trained_embeddings(name: str) -> Invalid:
    """Return the refusal of an adapter that changes the vocabulary's vectors, which all adapters here share."""
    return Invalid(
        "adapter_embeddings_trained",
        f"it changes {name!r}, which all adapters of a base model share: train linear layers alone, or merge it "
        "(merge_and_unload of PEFT) and serve the outcome as a base model of its own",
    )
