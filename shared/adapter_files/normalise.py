"""Accepts what means plain LoRA on linear layers: normalises it, keeps the original config, says what was done."""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from shared.adapter_files.check import (
    AdapterInfo,
    AdapterLimits,
    check_form,
    check_shapes,
    check_size,
    parts_of,
)
from shared.adapter_files.config import RULES, check_rank, is_empty, is_true, read_config, some_of
from shared.adapter_files.described import described
from shared.adapter_files.folder import CONFIG_NAME, INITIAL_NAME, ORIGINAL_NAME, WEIGHTS_NAME, check_folder
from shared.adapter_files.foreign import MUTATING, cleaned, settled_init, starts_at_zero
from shared.adapter_files.names import lora_tensors, renamed
from shared.adapter_files.rewrite import Source, write_difference, write_renamed
from shared.adapter_files.shapes import BaseShapes
from shared.adapter_files.steps import Step, Steps
from shared.adapter_files.targets import Size, Targets
from shared.adapter_files.tensors import TensorSpan, check_finite, check_spans, read_header
from shared.errors import Invalid

_SHAPE_KEYS = (
    "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern",
)  # fmt: skip


class Accepted(NamedTuple):
    """An adapter that may be stored: its folder holds what is served, and its original config where that differs."""

    info: AdapterInfo
    notes: tuple[str, ...]
    """What was dropped or resolved; empty where the folder is as it came."""
    trained_on: str
    """The base model that its config names; "" where it names none."""


@dataclass(frozen=True, slots=True)
class _Adapter:
    """A folder's parts, read and resolved against the base model."""

    config: dict[str, Any]
    source: Source
    targets: Targets
    base: BaseShapes

    @property
    def served(self) -> dict[str, Size]:
        """The modules that have tensors; raises `Invalid` for one that the config does not target."""
        modules = {tensor.module for tensor in self.source.tensors.values()}
        return {module: size for module, size in self.targets.sizes.items() if module in modules}


def accept_adapter(folder: Path, base: BaseShapes, limits: AdapterLimits, steps: Steps | None = None) -> Accepted:
    """Normalise an adapter's folder in place, and check the outcome; raises `Invalid`, which names the way out.

    The folder holds `adapter_config.json`, `adapter_model.safetensors`, and in `initial` the same two of the adapter
    before its training, where there was one. What is served equals what PEFT makes of the folder as it came.
    `steps` notes each check.
    """
    steps = steps or Steps()
    with steps.step(Step.CONFIG):
        check_folder(folder)
        original = read_config(folder / CONFIG_NAME)
        config, notes = cleaned(original)
    adapter, sizes = _resolved(folder, config, base, limits, steps)
    with steps.step(Step.NORMALISED):
        notes = _normalise(folder, adapter, sizes, notes)
        info, spans = check_form(folder, base, limits)
    with steps.step(Step.NUMBERS):
        check_finite(folder / WEIGHTS_NAME, spans)
    named = original.get("base_model_name_or_path")
    return Accepted(info, tuple(notes), named if isinstance(named, str) else "")


def _resolved(
    folder: Path, config: dict[str, Any], base: BaseShapes, limits: AdapterLimits, steps: Steps
) -> tuple[_Adapter, dict[str, Size]]:
    """Check the weights against config and base model; returns both, and the modules that are served."""
    weights = folder / WEIGHTS_NAME
    with steps.step(Step.WEIGHTS):
        check_size(weights.stat().st_size, limits)
        spans = _spans(weights)
    with steps.step(Step.TARGETS):
        source = Source(weights, spans, lora_tensors(spans, base))
        adapter = _Adapter(config, source, Targets(config, base), base)
        sizes = adapter.served
    with steps.step(Step.RANK):
        check_rank(max((size.rank for size in sizes.values()), default=1), limits.max_rank)
    with steps.step(Step.TENSORS):
        _check_shapes(adapter, sizes)
    return adapter, sizes


def _normalise(folder: Path, adapter: _Adapter, sizes: dict[str, Size], notes: list[str]) -> list[str]:
    """Write what the adapter is as plain LoRA, where it is not; returns all notes."""
    config, base = adapter.config, adapter.base
    init, about_init = settled_init(config, [size.rank for size in adapter.targets.sizes.values()])
    about_modules = list(_notes_on_modules(adapter, sizes))
    about_names = renamed(adapter.source.tensors)
    is_converted = isinstance(init, str) and init.startswith(MUTATING)
    if is_converted:
        sizes = _convert(folder, adapter, sizes, init)
        about_modules.append(f"{init} is converted: the initial weights are taken off, which doubles the rank")
    elif about_names:
        _rewrite(adapter.source)
    if about_init or is_converted:
        config["init_lora_weights"] = is_converted or init
    if about_modules:
        config = _without_modules(config) | described(sizes, base)
    found = (*notes, about_init, *about_modules, about_names, _drop_initial(folder, is_used=is_converted))
    notes = [note for note in found if note]
    if notes:
        _write(folder, config)
    return notes


def _spans(file: Path) -> dict[str, TensorSpan]:
    spans = read_header(file)
    check_spans(spans, file.stat().st_size)
    return spans


def _source(file: Path, base: BaseShapes) -> Source:
    spans = _spans(file)
    return Source(file, spans, lora_tensors(spans, base))


def _check_shapes(adapter: _Adapter, sizes: Mapping[str, Size]) -> None:
    has_magnitude = bool(adapter.config.get("use_dora"))
    expected = [parts_of(*item, adapter.base, has_magnitude=has_magnitude) for item in sizes.items()]
    check_shapes(adapter.source.by_tensor(), {tensor: shape for parts in expected for tensor, shape in parts.items()})


def _notes_on_modules(adapter: _Adapter, sizes: Mapping[str, Size]) -> Iterator[str]:
    """Yield what keeps the config's words about modules from being stored; raises `Invalid`."""
    config, targets = adapter.config, adapter.targets
    named = config["target_modules"]
    if isinstance(named, str):
        yield f"target_modules {named[:64]!r} is written as a list: it stands for {len(sizes)} modules"
    elif len(set(named)) < len(named):
        yield f"target_modules names {len(named) - len(set(named))} modules twice"
    if targets.nothing:
        yield f"target_modules names nothing of this base model: {some_of(targets.nothing)}"
    if not is_empty(config.get("exclude_modules")):
        left = "target_modules holds what is left" if targets.excludes_any else "it excludes nothing that is there"
        yield f"exclude_modules is dropped: {left}"
    for key in ("layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern"):
        if key in config and not is_true(RULES[key][0], config[key]):
            yield f"{key} is written out by module"
    if missing := sorted(targets.sizes.keys() - sizes.keys()):
        if not starts_at_zero(config):
            raise Invalid(
                "adapter_weights_incomplete",
                f"{len(missing)} modules that the config targets have no tensors, such as {missing[0]}: save the whole "
                "adapter",
            )
        yield f"{len(missing)} targeted modules have no tensors and stay the base model's: {some_of(missing)}"


def _convert(folder: Path, adapter: _Adapter, sizes: Mapping[str, Size], init: str) -> dict[str, Size]:
    """Take the initial adapter off the trained one; returns the sizes of the outcome."""
    initial_file = folder / INITIAL_NAME / WEIGHTS_NAME
    if adapter.config.get("use_dora") or not initial_file.is_file():
        raise _unconverted(init)
    before = read_config(folder / INITIAL_NAME / CONFIG_NAME)
    initial = _source(initial_file, adapter.base)
    is_alike = all(before.get(key) == adapter.config.get(key) for key in ("r", "lora_alpha", "use_rslora"))
    if not is_alike or _kinds(initial) != _kinds(adapter.source):
        raise _unconverted(init)
    check_finite(initial_file, dict(initial.spans))
    target = folder / f"{WEIGHTS_NAME}.part"
    write_difference(adapter.source, initial, target)
    target.replace(adapter.source.file)
    is_rslora = bool(adapter.config.get("use_rslora"))
    return {module: _doubled(size, is_rslora=is_rslora) for module, size in sizes.items()}


def _kinds(source: Source) -> dict[Any, Any]:
    return {tensor: (span.dtype, span.shape) for tensor, span in source.by_tensor().items()}


def _doubled(size: Size, *, is_rslora: bool) -> Size:
    """Return twice the rank with the alpha of the same scale."""
    return Size(2 * size.rank, size.alpha * (2**0.5 if is_rslora else 2))


def _unconverted(init: str) -> Invalid:
    return Invalid(
        "adapter_init_unconverted",
        f"{init} moved a part of the base weights into the adapter before training: send the folder with the initial "
        f"adapter in it (as {init.partition('_niter')[0]}_init), or convert it by "
        "model.save_pretrained(FOLDER, path_initial_model_for_weight_conversion=INITIAL) of PEFT",
    )


def _rewrite(source: Source) -> None:
    target = source.file.with_name(f"{source.file.name}.part")
    write_renamed(source, target)
    target.replace(source.file)


def _drop_initial(folder: Path, *, is_used: bool) -> str:
    """Remove the adapter before its training; returns a note where it came along and is not used, or ""."""
    if not (folder / INITIAL_NAME).is_dir():
        return ""
    shutil.rmtree(folder / INITIAL_NAME)
    return (
        "" if is_used else "the adapter before its training is not used: init_lora_weights says the weights are plain"
    )


def _without_modules(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in _SHAPE_KEYS}


def _write(folder: Path, config: Mapping[str, Any]) -> None:
    (folder / CONFIG_NAME).replace(folder / ORIGINAL_NAME)
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
