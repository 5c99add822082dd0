"""Configs as other tools write them: what has no effect on serving goes, with a note; what has one is refused."""

import math
from collections.abc import Iterable
from types import MappingProxyType
from typing import Any

from shared.adapter_files.config import (
    MAX_LAYERS,
    MAX_NAMES,
    RULES,
    SWITCHES,
    Rule,
    check_value,
    invalid,
    is_alpha,
    is_empty,
    is_rank,
    is_true,
    is_whole,
    some_of,
)
from shared.errors import Invalid

MUTATING = ("pissa", "olora", "corda", "lora_ga")
"""Initialisations that move a part of the base weights into the adapter before training."""
_DEFAULT = 8
"""PEFT's rank and alpha where the config has none."""
_MAX_PATTERN_CHARACTERS = 4096
_MEANINGFUL = (
    "lora", "rank", "alpha", "scal", "module", "layer", "target", "bias", "init", "pattern", "use_", "auto_", "code",
)  # fmt: skip
"""Parts of names of settings; a switch of such a name may come from a newer PEFT, or from a fork."""


def _is_any(_: Any) -> bool:
    return True


def _is_falsy(value: Any) -> bool:
    return not value


def _is_no_text(value: Any) -> bool:
    return not isinstance(value, str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_ineffective_dropout(value: Any) -> bool:
    return isinstance(value, int | float) and not math.isnan(value) and value <= 1


_DROPPED: MappingProxyType[str, tuple[Rule, str]] = MappingProxyType(
    {
        "auto_mapping": (_is_any, "it names a class that is never imported here"),
        "runtime_config": (_is_any, "it holds for the process that wrote it"),
        "merge_weights": (_is_any, "weights are never merged here"),
        "inference_mode": (_is_any, "it holds for the process that wrote it"),
        "fan_in_fan_out": (_is_any, "the base model's layers are no transposed ones"),
        "ensure_weight_tying": (_is_any, "no tied layer is changed"),
        "use_qalora": (_is_any, "layers of GPTQ alone read it"),
        "base_model_name_or_path": (_is_no_text, "it is no text"),
        "revision": (_is_any, "the base model is that of the workers"),
        "peft_version": (_is_any, "it is no text"),
        "megatron_core": (_is_any, "no megatron_config uses it"),
        "qalora_group_size": (_is_any, "use_qalora is off"),
        # Their initialisations are refused under `init_lora_weights`.
        "corda_config": (_is_object, "init_lora_weights does not use it"),
        "eva_config": (_is_object, "it is about the start of training"),
        "lora_ga_config": (_is_object, "init_lora_weights does not use it"),
    }
)
"""Keys that may hold more than `RULES` allows, with what they may hold, and why it has no effect."""
_REPLACED: MappingProxyType[str, tuple[Rule, Any, str]] = MappingProxyType(
    {
        "task_type": (lambda value: value is None, "CAUSAL_LM", "is null: it is taken for a causal language model's"),
        "use_dora": (_is_falsy, False, "is empty: it is off"),
        "use_rslora": (_is_falsy, False, "is empty: it is off"),
        "lora_dropout": (_is_ineffective_dropout, 0.0, "is about training alone: it is set to 0"),
        "monteclora_config": (lambda value: value in (False, "", []), None, "is empty: it is off"),
        # PEFT takes any text in target_parameters for an error, and counts what is in layers_pattern.
        **dict.fromkeys(
            set(SWITCHES) - {"target_parameters", "layers_pattern"},
            (_is_falsy, None, "is empty: it is off"),
        ),
    }
)
"""Keys with a value that means another one."""


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MAX_NAMES and all(isinstance(text, str) for text in value)


def _is_expression(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_PATTERN_CHARACTERS


def _are_layers(value: Any) -> bool:
    return value is None or is_whole(value) or (len(value) <= MAX_LAYERS and all(map(is_whole, value)))


def _by_pattern(is_allowed: Rule) -> Rule:
    return lambda value: isinstance(value, dict) and all(map(is_allowed, value.values()))


_LOOSE: MappingProxyType[str, tuple[Rule, str]] = MappingProxyType(
    {
        "target_modules": (
            lambda value: _is_expression(value) or (_are_texts(value) and len(value) > 0),
            f"a list of 1 to {MAX_NAMES} module names, or a regular expression",
        ),
        "exclude_modules": (
            lambda value: is_empty(value) or _is_expression(value) or _are_texts(value),
            "a list of module names, or a regular expression",
        ),
        "layers_to_transform": (_are_layers, "null, a layer number, or a list of them"),
        "layers_pattern": (
            lambda value: value is None or value in ("", {}) or _is_expression(value) or _are_texts(value),
            "a text, or a list of them",
        ),
        "rank_pattern": (_by_pattern(is_rank), "an object of module names and ranks"),
        "alpha_pattern": (_by_pattern(is_alpha), "an object of module names and alphas above 0"),
    }
)
"""What may be said about modules before it is resolved."""


def cleaned(config: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the config with known keys alone, whose values have PEFT's types, and notes on what was dropped.

    What it says about modules (`target_modules` and the like) and `init_lora_weights` may still have to be resolved.
    Raises `Invalid` for what is no LoRA of a causal language model, and for every setting that is not served.
    """
    _check_kind(config)
    notes: list[str] = []
    kept = {key: value for key, value in config.items() if not _is_dropped(key, value, notes) and key in RULES}
    kept = {key: _replaced(key, value, notes) for key, value in _defaulted(kept, notes).items()}
    for key, value in kept.items():
        if key != "init_lora_weights":
            check_value(key, value, _LOOSE.get(key) or RULES[key])
    _check_together(kept)
    return kept, [*notes, *_without_unknown(config)]


def _check_kind(config: dict[str, Any]) -> None:
    """Raise `Invalid` for the config of another tool than PEFT, or of another method."""
    if "peft_type" not in config and {"lora_parameters", "fine_tune_type", "lora_layers"} & config.keys():
        raise Invalid(
            "adapter_format_unknown",
            "adapter_config.json is MLX's: transpose lora_a and lora_b, name them as PEFT does, and write lora_alpha = "
            "scale x rank; or fuse the adapter (mlx_lm.fuse) and serve a base model of its own",
        )
    if missing := [key for key in ("peft_type", "target_modules") if config.get(key) is None]:
        raise invalid(f"it lacks {', '.join(missing)}: save the adapter with PEFT again")
    check_value("peft_type", config["peft_type"], RULES["peft_type"])


def _is_dropped(key: str, value: Any, notes: list[str]) -> bool:
    is_plain = key in RULES and is_true(RULES[key][0], value)
    if is_plain or key not in _DROPPED or not is_true(_DROPPED[key][0], value):
        return False
    notes.append(f"{key} is dropped: {_DROPPED[key][1]}")
    return True


def _replaced(key: str, value: Any, notes: list[str]) -> Any:
    if key not in _REPLACED or is_true(RULES[key][0], value) or not is_true(_REPLACED[key][0], value):
        return value
    notes.append(f"{key} {_REPLACED[key][2]}")
    return _REPLACED[key][1]


def _defaulted(config: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Return the config with the values that PEFT takes for what is missing."""
    missing = [key for key in ("r", "lora_alpha") if key not in config]
    notes.extend(f"{key} is missing: PEFT's {_DEFAULT} is taken" for key in missing)
    return {"task_type": None, "r": _DEFAULT, "lora_alpha": _DEFAULT} | config


def _check_together(config: dict[str, Any]) -> None:
    layers, pattern = config.get("layers_to_transform"), config.get("layers_pattern")
    if isinstance(config["target_modules"], str) and not (layers is None and pattern is None):
        raise invalid(
            "layers_to_transform and layers_pattern go with a list in target_modules, not with a regular expression: "
            "list the modules' names"
        )
    if pattern and layers is None:
        raise invalid("layers_pattern goes with layers_to_transform alone: name the layers, or leave it out")


def _without_unknown(config: dict[str, Any]) -> Iterable[str]:
    """Return a note on the keys that PEFT does not know; raises `Invalid` for one that may switch something on."""
    unknown = [key for key in config if key not in RULES and key not in _DROPPED]
    for key in unknown:
        value = config[key]
        if isinstance(value, bool | dict | list) and not is_empty(value) and _is_meaningful(key):
            raise invalid(
                f"the key {key[:64]!r} is not known here and may change what the adapter does; remove it where it is "
                "a note of yours"
            )
    if unknown:
        yield f"{some_of(unknown)}: dropped, PEFT reads no such keys"


def _is_meaningful(key: str) -> bool:
    return any(part in key.lower() for part in _MEANINGFUL)


def settled_init(config: dict[str, Any], ranks: Iterable[int]) -> tuple[Any, str]:
    """Return `init_lora_weights` as it may stand in a stored config, and a note or "".

    Raises `Invalid` for an initialisation that PEFT would not load, or that belongs to a quantised base model. What
    `MUTATING` names is returned as it is: it has to be converted.
    """
    init = config.get("init_lora_weights", True)
    if is_true(RULES["init_lora_weights"][0], init):
        return init, ""
    name = init.lower() if isinstance(init, str) else init
    if name == "loftq":
        raise Invalid(
            "adapter_init_unconverted",
            "LoftQ trains on a quantised base model, and no LoRA on the plain one is equal to it: merge the adapter "
            "into that base model and serve it, or train with init_lora_weights=True",
        )
    if isinstance(name, str) and name.startswith(MUTATING):
        return name, ""
    if name == "orthogonal" and any(rank % 2 for rank in ranks):
        raise invalid("init_lora_weights orthogonal needs even ranks: write true in its place")
    if not name or (isinstance(name, str) and name in {"gaussian", "eva", "orthogonal"}):
        return bool(name), f"init_lora_weights {init} is dropped: it is about the start of training"
    raise invalid(
        "init_lora_weights must be true or false: load the adapter with PEFT and save it with init_lora_weights true"
    )


def starts_at_zero(config: dict[str, Any]) -> bool:
    """Whether a module without tensors stays as it is: its B begins as zeros."""
    init = config.get("init_lora_weights", True)
    return init is True or (isinstance(init, str) and init.lower() in {"gaussian", "eva"})
