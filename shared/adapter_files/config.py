"""The keys and values that `adapter_config.json` may have."""

import codecs
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

from shared.contracts.json_objects import unique_keys
from shared.errors import Invalid

_MAX_BYTES = 64 << 10
_MAX_TARGETS = 64
_MAX_LAYERS = 1024
_MODULE_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
_MAX_ALPHA = 1e6

Rule = Callable[[Any], bool]


def _is_empty(value: Any) -> bool:
    return value is None or value is False or value in ({}, [])


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_short_text(value: Any) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= 1024 and value.isprintable())


def _are_module_names(value: Any) -> bool:
    # PEFT would treat a string as a regular expression for module names.
    return (
        isinstance(value, list)
        and 1 <= len(value) <= _MAX_TARGETS
        and all(isinstance(name, str) and len(name) <= 128 and _MODULE_NAME.fullmatch(name) for name in value)
        and len(set(value)) == len(value)
    )


def _are_layers(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= _MAX_LAYERS
        and all(_is_whole(layer) and 0 <= layer < _MAX_LAYERS for layer in value)
        and len(set(value)) == len(value)
    )


RULES: MappingProxyType[str, tuple[Rule, str]] = MappingProxyType(
    {
        "peft_type": (lambda value: value == "LORA", '"LORA"'),
        "task_type": (lambda value: value == "CAUSAL_LM", '"CAUSAL_LM"'),
        "r": (lambda value: _is_whole(value) and value >= 1, "a whole number from 1"),
        "lora_alpha": (lambda value: _is_number(value) and 0 < value <= _MAX_ALPHA, "a number above 0"),
        "lora_dropout": (lambda value: _is_number(value) and 0 <= value < 1, "a number from 0 to below 1"),
        "target_modules": (_are_module_names, f"a list of 1 to {_MAX_TARGETS} plain module names"),
        "layers_to_transform": (
            lambda value: _is_empty(value) or _are_layers(value),
            "null or a list of layer numbers, each once",
        ),
        "use_dora": (_is_bool, "true or false"),
        "use_rslora": (_is_bool, "true or false"),
        "inference_mode": (_is_bool, "true or false"),
        # pissa, olora, corda, eva, loftq and lora_ga change the base weights when PEFT adds the adapter.
        "init_lora_weights": (lambda value: _is_bool(value) or value in {"gaussian", "orthogonal"}, "true or false"),
        "bias": (lambda value: value == "none", '"none"'),
        "base_model_name_or_path": (_is_short_text, "a text or null"),
        "revision": (_is_short_text, "a text or null"),
        "peft_version": (_is_short_text, "a text or null"),
        "megatron_core": (lambda value: value in {None, "megatron.core"}, '"megatron.core" or null'),
        "qalora_group_size": (_is_whole, "a whole number"),
        # PEFT 0.21 writes these keys as empty; any value would change more than plain LoRA layers.
        **dict.fromkeys(
            (
                "alora_invocation_tokens", "alpha_pattern", "arrow_config", "auto_mapping", "corda_config",
                "ensure_weight_tying", "eva_config", "exclude_modules", "fan_in_fan_out", "kasa_config",
                "layer_replication", "layers_pattern", "loftq_config", "lora_bias",
                "lora_ga_config", "megatron_config", "modules_to_save", "monteclora_config", "rank_pattern",
                "target_parameters", "trainable_token_indices", "use_bdlora", "use_qalora", "velora_config",
            ),
            (_is_empty, "empty"),
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
        raise _invalid(f"the file is longer than {_MAX_BYTES} bytes")
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


def check_config(config: dict[str, Any], max_rank: int) -> None:
    """Raise `Invalid` unless every key is known and holds a value that plain LoRA needs."""
    missing = [key for key in REQUIRED if key not in config]
    if missing:
        raise _invalid(f"it lacks {', '.join(missing)}")
    for key, value in config.items():
        _check_value(key, value)
    if config["r"] > max_rank:
        raise Invalid(
            "adapter_rank_too_large", f"rank {config['r']} is above the limit of {max_rank}: train a smaller one"
        )


def canonical_config(config: dict[str, Any]) -> bytes:
    """Return canonical bytes: equal configs give equal bytes, although PEFT writes `target_modules` in any order."""
    targets = config.get("target_modules")
    if isinstance(targets, list) and all(isinstance(name, str) for name in targets):
        config = {**config, "target_modules": sorted(targets)}
    return json.dumps(config, sort_keys=True, separators=(",", ":")).encode()


def _check_value(key: str, value: Any) -> None:
    if key not in RULES:
        raise _invalid(f"the key {key[:64]!r} is not known here; remove it")
    is_allowed, wanted = RULES[key]
    try:
        allowed = is_allowed(value)
    except (TypeError, OverflowError):  # an unhashable value, or too long a number
        allowed = False
    if not allowed:
        raise _invalid(f"{key} must be {wanted}")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _invalid(reason: str) -> Invalid:
    return Invalid("adapter_config_invalid", f"adapter_config.json: {reason}")
