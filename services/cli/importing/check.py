"""Looks at adapters on this machine before anything is uploaded: by the base model's shapes, where these are here."""

import tempfile
from collections.abc import Container
from pathlib import Path
from typing import Any, NamedTuple

from services.cli.errors import known_errors
from services.cli.importing.entries import Entry, without_label
from shared.adapter_files import CONFIG_NAME, AdapterLimits, BaseShapes, accept_adapter, unpack_adapter
from shared.adapter_files.config import read_config
from shared.adapter_files.foreign import cleaned
from shared.settings import Settings


class Base(NamedTuple):
    """A base model that is on this machine."""

    pin: str
    shapes: BaseShapes


class Looked(NamedTuple):
    """What an adapter's files say; `problem` is why an upload would be refused, empty where nothing is known of it."""

    rank: int | None = None
    base: str = ""
    """The base model that its config names."""
    notes: tuple[str, ...] = ()
    problem: str = ""


def base_here(settings: Settings, served: Container[str] | None = None) -> Base | None:
    """Return the base model on this machine, unless another one is served; None where there is none."""
    from shared.model.base import base_model_id, local_folder

    if (folder := local_folder(settings)) is None:
        return None
    pin = base_model_id(folder)
    return None if served is not None and pin not in served else Base(pin, BaseShapes.from_folder(folder))


def look_at(entry: Entry, base: Base | None, limits: AdapterLimits, archive: bytes | None = None) -> Looked:
    """Check an adapter as an upload would; without its base model, all but its tensors.

    `archive` is the folder as `pack_adapter` packs it, where that is at hand.
    """
    from signalbox.uploads import pack_adapter

    if not entry.label:
        return Looked(problem=without_label(entry.folder))
    shapes = base.shapes if base and entry.base_model in ("", base.pin) else None
    try:
        with tempfile.TemporaryDirectory(prefix="signalbox-import-") as scratch:
            folder = Path(scratch) / "adapter"
            unpack_adapter(archive or pack_adapter(entry.folder), folder, limits.max_bytes)
            config = read_config(folder / CONFIG_NAME)
            told = Looked(_rank(config), str(config.get("base_model_name_or_path") or ""))
            try:
                return _judged(told, folder, shapes, limits)
            except known_errors() as error:
                return told._replace(problem=error.detail)
    except (*known_errors(), OSError) as error:
        return Looked(problem=str(error))


def _judged(told: Looked, folder: Path, shapes: BaseShapes | None, limits: AdapterLimits) -> Looked:
    if shapes is None:
        return told._replace(notes=tuple(cleaned(read_config(folder / CONFIG_NAME))[1]))
    accepted = accept_adapter(folder, shapes, limits)
    return told._replace(rank=accepted.info.rank, notes=accepted.notes)


def _rank(config: dict[str, Any]) -> int | None:
    rank = config.get("r")
    return rank if isinstance(rank, int) else None
