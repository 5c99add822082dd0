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
    idempotency_key: str | None = None,
) -> Call[Adapter]:
    """Upload a PEFT folder as the label's next version; raises `SignalboxError` where a file of it is missing.

    A chat template in the folder is named by its digest, and never run. `base_model` is the pin of the model that the
    adapter was trained on, needed only where workers serve several.
    """
    archive = _packed(Path(folder))
    form = {"label": label, "instruction": instruction, "template": template}
    form |= {"base_model": base_model} if base_model else {}
    form |= {"chat_template": sha256} if (sha256 := _chat_template(Path(folder))) else {}
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


def _packed(folder: Path) -> bytes:
    """The adapter's two files as a tar; equal folders give equal bytes."""
    missing = [name for name in _ADAPTER_FILES if not (folder / name).is_file()]
    if missing:
        raise SignalboxError("adapter_file_missing", f"{folder} lacks {' and '.join(missing)}: {_remedy(folder)}")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in _ADAPTER_FILES:
            member = tarfile.TarInfo(name)  # its owner, mode and time are constants
            member.size = (folder / name).stat().st_size
            with (folder / name).open("rb") as stream:
                tar.addfile(member, stream)
    return buffer.getvalue()


def _chat_template(folder: Path) -> str:
    """The SHA-256 of the chat template that the folder's tokenizer brings; empty without one."""
    try:
        if (file := folder / "chat_template.jinja").is_file():
            return hashlib.sha256(file.read_bytes()).hexdigest()
        found = json.loads((folder / "tokenizer_config.json").read_bytes()).get("chat_template")
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""
    return hashlib.sha256(found.encode()).hexdigest() if isinstance(found, str) and found else ""


def _remedy(folder: Path) -> str:
    if (folder / "adapter_model.bin").is_file():
        return "its weights are a pickle; save it with PEFT again, with safe_serialization=True"
    inside = sorted(config.parent.name for config in folder.glob(f"*/{_ADAPTER_FILES[0]}"))
    return f"name a folder inside it, such as {inside[-1]}" if inside else "save it with PEFT again"
