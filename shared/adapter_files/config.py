"""The keys and values that `adapter_config.json` may have."""

import codecs
import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from shared.adapter_files.patterns import is_plain
from shared.contracts.json_objects import unique_keys
from shared.errors import Invalid

_MAX_BYTES = 64 << 10
MAX_NAMES = 4096
"""Modules that a config may name one by one."""
MAX_LAYERS = 1024
_MODULE_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
_MAX_ALPHA = 1e6
_SHOWN = 8

PLAIN_ALONE = "only plain LoRA is served; train without it, or merge the adapter and serve a base model of its own"
NO_BIAS = "trained biases are not served; train with bias none, or merge the adapter and serve a base model of its own"

Rule = Callable[[Any], bool]


def is_empty(value: Any) -> bool:
    """Whether a value switches nothing on, in a setting that PEFT reads as true or false."""
    return value is None or value is False or value in ({}, [])


def _is_null(value: Any) -> bool:
    return value is None


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, and not true or false."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_rank(value: Any) -> bool:
    """Whether a value may be a rank."""
    return is_whole(value) and value >= 1


def is_alpha(value: Any) -> bool:
    """Whether a value may be an alpha."""
    return _is_number(value) and 0 < value <= _MAX_ALPHA


def is_dropout(value: Any) -> bool:
    """Whether a value is a probability of dropping a number in training."""
    return _is_number(value) and 0 <= value < 1


def _is_short_text(value: Any) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= 1024 and value.isprintable())


def _are_module_names(value: Any) -> bool:
    # PEFT would treat a string as a regular expression for module names.
    return (
        isinstance(value, list)
        and 1 <= len(value) <= MAX_NAMES
        and all(isinstance(name, str) and len(name) <= 128 and _MODULE_NAME.fullmatch(name) for name in value)
        and len(set(value)) == len(value)
    )


def _are_layers(value: Any) -> bool:
    return value is None or (
        isinstance(value, list)
        and len(value) <= MAX_LAYERS
        and all(is_whole(layer) and 0 <= layer < MAX_LAYERS for layer in value)
        and len(set(value)) == len(value)
    )


def _by_module(is_allowed: Rule) -> Rule:
    return lambda value: (
        isinstance(value, dict) and all(is_plain(key) and is_allowed(number) for key, number in value.items())
    )


SWITCHES = (
    "alora_invocation_tokens", "ensure_weight_tying", "exclude_modules", "fan_in_fan_out",
    "layer_replication", "layers_pattern", "loftq_config", "lora_bias", "megatron_config", "modules_to_save",
    "target_parameters", "use_qalora",
)  # fmt: skip
"""Settings that are off while they are empty."""
RULES: MappingProxyType[str, tuple[Rule, str]] = MappingProxyType(
    {
        "peft_type": (lambda value: value == "LORA", '"LORA": no other method of PEFT is served'),
        "task_type": (lambda value: value == "CAUSAL_LM", '"CAUSAL_LM": train on a causal language model'),
        "r": (is_rank, "a whole number from 1"),
        "lora_alpha": (is_alpha, f"a number above 0, at most {_MAX_ALPHA:.0f}"),
        "lora_dropout": (is_dropout, "a number from 0 to below 1"),
        "target_modules": (_are_module_names, f"a list of 1 to {MAX_NAMES} plain module names"),
        "layers_to_transform": (_are_layers, "null or a list of layer numbers, each once"),
        "rank_pattern": (_by_module(is_rank), "an object of module names and ranks"),
        "alpha_pattern": (_by_module(is_alpha), "an object of module names and alphas"),
        "use_dora": (_is_bool, "true or false"),
        "use_rslora": (_is_bool, "true or false"),
        "inference_mode": (_is_bool, "true or false"),
        # pissa, olora, corda and lora_ga change the base weights when PEFT makes the adapter.
        "init_lora_weights": (lambda value: _is_bool(value) or value == "gaussian", "true or false"),
        "bias": (lambda value: value == "none", f'"none": {NO_BIAS}'),
        "base_model_name_or_path": (_is_short_text, "a text or null"),
        "revision": (_is_short_text, "a text or null"),
        "peft_version": (_is_short_text, "a text or null"),
        "megatron_core": (lambda value: value in {None, "megatron.core"}, '"megatron.core" or null'),
        "qalora_group_size": (is_whole, "a whole number"),
        # PEFT 0.21 writes these keys as empty; any value would change more than plain LoRA layers.
        **dict.fromkeys(SWITCHES, (is_empty, f"empty: {PLAIN_ALONE}")),
        # An empty object would switch these on.
        **dict.fromkeys(
            (
                "arrow_config", "auto_mapping", "corda_config", "eva_config", "kasa_config", "lora_ga_config",
                "monteclora_config", "trainable_token_indices", "use_bdlora", "velora_config",
            ),
            (_is_null, f"null: {PLAIN_ALONE}"),
        ),
    }
)  # fmt: skip
"""Every allowed key with its rule and the rule's description; any other key is refused."""

REQUIRED = ("peft_type", "task_type", "r", "lora_alpha", "target_modules")


def read_config(file: Path) -> dict[str, Any]:
    """Parse the config file; raises `Invalid` unless it is one small JSON object without repeated keys."""
    with file.open("rb") as stream:
        raw = stream.read(_MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        raise invalid(f"the file is longer than {_MAX_BYTES} bytes")
    return strict_object(raw, "adapter_config_invalid", file.name)


def strict_object(raw: bytes, code: str, what: str) -> dict[str, Any]:
    """Parse one JSON object: UTF-8, no repeated keys, no NaN; raises `Invalid(code)` otherwise."""
    if raw.startswith(codecs.BOM_UTF8):
        raise Invalid(code, f"{what} begins with a byte order mark: save it as UTF-8 without one")
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=unique_keys, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Invalid(code, f"{what} is not clean JSON ({error}): save the adapter with PEFT again") from error
    if not isinstance(value, dict):
        raise Invalid(code, f"{what} is not a JSON object: save the adapter with PEFT again")
    return value


def some_of(names: Sequence[str]) -> str:
    """Return the first names for a note, each on one line and short, and how many more there are."""
    shown = ", ".join(name[:64] if name.isprintable() else repr(name[:64]) for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def check_config(config: dict[str, Any]) -> None:
    """Raise `Invalid` unless every key is known and holds a value that plain LoRA needs."""
    missing = [key for key in REQUIRED if key not in config]
    if missing:
        raise invalid(f"it lacks {', '.join(missing)}: save the adapter with PEFT again")
    for key, value in config.items():
        if key not in RULES:
            raise invalid(f"the key {key[:64]!r} is not known here; remove it")
        check_value(key, value, RULES[key])


def check_rank(rank: int, max_rank: int) -> None:
    """Raise `Invalid` for a rank above the limit."""
    if rank > max_rank:
        raise Invalid("adapter_rank_too_large", f"rank {rank} is above the limit of {max_rank}: train a smaller one")


def canonical_config(config: dict[str, Any]) -> bytes:
    """Return canonical bytes: equal configs give equal bytes, although PEFT writes `target_modules` in any order."""
    targets = config.get("target_modules")
    if isinstance(targets, list) and all(isinstance(name, str) for name in targets):
        config = {**config, "target_modules": sorted(targets)}
    return json.dumps(config, sort_keys=True, separators=(",", ":")).encode()


def check_value(key: str, value: Any, rule: tuple[Rule, str]) -> None:
    """Raise `Invalid` for a value that its rule does not allow."""
    is_allowed, wanted = rule
    if not is_true(is_allowed, value):
        raise invalid(f"{key} must be {wanted}")


def is_true(rule: Rule, value: Any) -> bool:
    """Whether a rule allows a value of any kind."""
    try:
        return rule(value)
    except (TypeError, OverflowError):  # an unhashable value, or too long a number
        return False


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def invalid(reason: str) -> Invalid:
    """Return the refusal of a config."""
    return Invalid("adapter_config_invalid", f"adapter_config.json: {reason}")
