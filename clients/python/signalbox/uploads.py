"""Calls that upload: data sets from memory or files, adapters as PEFT saves them."""

import gzip
import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from signalbox.calls import Call, new_key
from signalbox.errors import SignalboxError
from signalbox.requests import IDEMPOTENCY_KEY, Request
from signalbox.results import Adapter, Dataset

UPLOAD_SECONDS = 300.0
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def upload_dataset(
    rows: Path | str | bytes | Iterable[Mapping[str, Any]], name: str = "", *, idempotency_key: str | None = None
) -> Call[Dataset]:
    """Upload rows of {input, instruction?, output?, label?}: a file of JSON lines (gzipped or not), or the rows.

    Without a `name` the file's own is taken. The same rows again are the same data set.
    """
    if isinstance(rows, Path | str):
        name = name or Path(rows).name.split(".jsonl")[0]
    headers = {"Content-Type": "application/x-ndjson", IDEMPOTENCY_KEY: idempotency_key or new_key()}
    request = Request(
        "POST",
        "/v1/datasets",
        params={"name": name},
        headers=headers,
        content=_json_lines(rows),
        timeout_seconds=UPLOAD_SECONDS,
    )
    return Call(request, Dataset.from_dict)


def upload_adapter(
    folder: Path | str,
    label: str,
    *,
    instruction: str = "",
    template: str = "chatml",
    base_model: str = "",
    confirm_base: bool = False,
    idempotency_key: str | None = None,
) -> Call[Adapter]:
    """Upload a PEFT folder as the label's next version; raises `SignalboxError` where a file of it is missing.

    The folder may be a training's whole output, or a model's folder in a hub cache: its links are followed.
    `base_model` is the pin of the model that it was trained on, needed only where workers serve several;
    `confirm_base` takes an adapter whose config names another base model that is known there.
    """
    archive = _packed(_in_cache(Path(folder)))
    form = {"label": label, "instruction": instruction, "template": template}
    form |= {"base_model": base_model} if base_model else {}
    form |= {"confirm_base": "true"} if confirm_base else {}
    request = Request(
        "POST",
        "/v1/adapters",
        headers={IDEMPOTENCY_KEY: idempotency_key or new_key()},
        data={**form, "sha256": hashlib.sha256(archive).hexdigest()},
        files={"file": ("adapter.tar", archive)},
        timeout_seconds=UPLOAD_SECONDS,
    )
    return Call(request, Adapter.from_dict)


def _json_lines(rows: Path | str | bytes | Iterable[Mapping[str, Any]]) -> bytes:
    if isinstance(rows, bytes):
        return rows
    if isinstance(rows, Path | str):
        return _read(Path(rows))
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _read(file: Path) -> bytes:
    try:
        return gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise SignalboxError(
            "file_unreadable", f"{file} cannot be read ({error}): gzip what is named .gz, whole"
        ) from error


def _in_cache(folder: Path) -> Path:
    """The current snapshot of a model's folder in a hub cache; any other folder itself."""
    current = folder / "refs" / "main"
    return folder / "snapshots" / current.read_text().strip() if current.is_file() else folder


def _initial(folder: Path) -> list[Path]:
    """Folders of the adapter before its training, which initialisations such as PiSSA are converted by."""
    inside = sorted(config.parent for config in folder.glob(f"*init*/{_ADAPTER_FILES[0]}"))
    return [one for one in inside if (one / _ADAPTER_FILES[1]).is_file()]


def _packed(folder: Path) -> bytes:
    """The adapter's files as a tar, what links lead to in their place; equal folders give equal bytes."""
    missing = [name for name in _ADAPTER_FILES if not (folder / name).is_file()]
    if missing:
        raise SignalboxError("adapter_file_missing", f"{folder} lacks {' and '.join(missing)}: {_remedy(folder)}")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for file in (one / name for one in (folder, *_initial(folder)) for name in _ADAPTER_FILES):
            member = tarfile.TarInfo(file.relative_to(folder).as_posix())  # its owner, mode and time are constants
            member.size = file.stat().st_size
            with file.open("rb") as stream:
                tar.addfile(member, stream)
    return buffer.getvalue()


def _remedy(folder: Path) -> str:
    if (folder / "adapter_model.bin").is_file():
        return "its weights are a pickle; save it with PEFT again, with safe_serialization=True"
    inside = sorted(config.parent.name for config in folder.glob(f"*/{_ADAPTER_FILES[0]}"))
    return f"name a folder inside it, such as {inside[-1]}" if inside else "save it with PEFT again"
