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

from signalbox.call import Call, new_key
from signalbox.errors import SignalboxError
from signalbox.requests import IDEMPOTENCY_KEY, Request
from signalbox.results import Adapter, Dataset, DatasetCheck

UPLOAD_SECONDS = 300.0
_GZIP = b"\x1f\x8b"
_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
Rows = Path | str | bytes | Iterable[Mapping[str, Any]]
"""A file's path, the bytes of a file, or rows."""
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def upload_dataset(
    rows: Rows,
    name: str = "",
    *,
    columns: Mapping[str, str] | None = None,
    accept_labels: bool = False,
    idempotency_key: str | None = None,
) -> Call[Dataset]:
    """Upload rows of {input, instruction?, output?, label?}: a file, or the rows.

    A file is JSON lines, a JSON array, CSV or TSV, also packed by gzip or zstd. `columns` names the column or key of
    each field: `{"input": "question", "output": "answer"}`. With `accept_labels`, labels that are none become those
    that are proposed. Without a `name` the file's own is taken. The same rows again are the same data set.
    """
    if isinstance(rows, Path | str):
        name = name or name_of(rows)
    params = {"name": name, **_reading(columns, accept_labels=accept_labels)}
    key = {IDEMPOTENCY_KEY: idempotency_key or new_key()}
    return Call(_post_rows("/v1/datasets", rows, params, key), Dataset.from_dict)


def check_dataset(
    rows: Rows,
    *,
    columns: Mapping[str, str] | None = None,
    accept_labels: bool = False,
    template: str = "",
) -> Call[DatasetCheck]:
    """What an upload of these rows would be, and what they would train by a template; nothing is stored.

    By default it is the base model's usual template, as far as the server has what that needs: the answer names it.
    """
    params = {**_reading(columns, accept_labels=accept_labels)} | ({"template": template} if template else {})
    return Call(_post_rows("/v1/datasets/check", rows, params, {}), DatasetCheck.from_dict)


def name_of(file: Path | str) -> str:
    """The name of a file without the endings that say its form."""
    name = Path(file).name
    for endings in ((".gz", ".zst"), _ENDINGS):
        name = next((name.removesuffix(ending) for ending in endings if name.endswith(ending)), name)
    return name


def _post_rows(path: str, rows: Rows, params: Mapping[str, str], headers: Mapping[str, str]) -> Request:
    kind = "application/octet-stream" if isinstance(rows, Path | str | bytes) else "application/x-ndjson"
    return Request(
        "POST",
        path,
        params=params,
        headers={"Content-Type": kind, **headers},
        content=_json_lines(rows),
        timeout_seconds=UPLOAD_SECONDS,
    )


def _reading(columns: Mapping[str, str] | None, *, accept_labels: bool) -> dict[str, str]:
    """How the rows are to be read, as far as it is said; a column with a comma stands in quotes."""
    parts = [f"{field}={column}" for field, column in (columns or {}).items()]
    quoted = ['"{}"'.format(part.replace('"', '""')) if set(part) & set(',"') else part for part in parts]
    return {
        **({"columns": ",".join(quoted)} if quoted else {}),
        **({"accept_labels": "true"} if accept_labels else {}),
    }


def upload_adapter(
    folder: Path | str,
    label: str,
    *,
    instruction: str = "",
    template: str = "",
    base_model: str = "",
    confirm_base: bool = False,
    archive: bytes | None = None,
    idempotency_key: str | None = None,
) -> Call[Adapter]:
    """Upload a PEFT folder as the label's next version; raises `SignalboxError` where a file of it is missing.

    The folder may be a training's whole output, or a model's folder in a hub cache: its links are followed. A chat
    template in it is named by its digest, and never run. `template` says how it was prompted in its training, as is
    usual on the base model by default. `base_model` is the pin of the model that the adapter was
    trained on, needed only where workers serve several; `confirm_base` takes an adapter whose config names another base
    model that is known there. `archive` is what `pack_adapter` gives for the folder, where that is at hand.
    """
    archive = pack_adapter(folder) if archive is None else archive
    form = {"label": label, "instruction": instruction}
    form |= {"template": template} if template else {}
    form |= {"base_model": base_model} if base_model else {}
    form |= {"confirm_base": "true"} if confirm_base else {}
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


def _json_lines(rows: Rows) -> bytes:
    if isinstance(rows, bytes):
        return rows
    if isinstance(rows, Path | str):
        return read_unpacked(Path(rows))
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def read_unpacked(file: Path) -> bytes:
    """The bytes of a file, unpacked where they are gzip; raises `SignalboxError`."""
    try:
        data = file.read_bytes()
        return gzip.decompress(data) if data.startswith(_GZIP) else data
    except (OSError, EOFError, zlib.error) as error:
        raise SignalboxError("file_unreadable", f"{file} cannot be read ({error}): gzip it again, whole") from error


def _in_cache(folder: Path) -> Path:
    """The current snapshot of a model's folder in a hub cache; any other folder itself."""
    current = folder / "refs" / "main"
    return folder / "snapshots" / current.read_text().strip() if current.is_file() else folder


def _initial(folder: Path) -> list[Path]:
    """Folders of the adapter before its training, which initialisations such as PiSSA are converted by."""
    inside = sorted(config.parent for config in folder.glob(f"*init*/{_ADAPTER_FILES[0]}"))
    return [one for one in inside if (one / _ADAPTER_FILES[1]).is_file()]


def pack_adapter(folder: Path | str) -> bytes:
    """The files of an adapter's folder as a tar, what links lead to in their place; equal folders give equal bytes."""
    folder = _in_cache(Path(folder))
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
