"""Uploads of files: a thread copies what arrived to a file of its own, with its digest, then stores it."""

import asyncio
import contextlib
import hashlib
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from services.api.files.schemas import FileForm
from services.api.http.problems import TooLarge
from services.api.infra.clients import Clients
from services.api.infra.pieces import streamed
from shared.contracts.files import Purpose, StoredFile
from shared.errors import Invalid
from shared.security.api_keys import Key, Scope

MAX_FILES = 10_000
"""Of one tenant: each has a record in the ledger."""
MAX_BATCH_BYTES = 200 << 20
_MAX_NAME_CHARS = 255
_PIECE_BYTES = 1 << 20
_SCOPES: Mapping[Purpose, tuple[Scope, ...]] = {
    Purpose.BATCH: (Scope.SUBMIT,),
    Purpose.BATCH_OUTPUT: (Scope.SUBMIT,),
    Purpose.FINE_TUNE: (Scope.TRAIN,),
    Purpose.FINE_TUNE_RESULTS: (Scope.TRAIN,),
    Purpose.USER_DATA: (Scope.SUBMIT, Scope.TRAIN),
}
"""What a key needs to add or delete a file of this purpose: one of these."""


class FileUpload(NamedTuple):
    """The form's fields, and the content in a file of its own."""

    form: FileForm
    filename: str
    path: Path
    size_bytes: int
    sha256: str

    @property
    def request(self) -> dict[str, Any]:
        """What a repeated upload is recognised by."""
        return {**self.form.model_dump(), "filename": self.filename, "file": self.sha256}


@contextlib.asynccontextmanager
async def received(request: Request, caller: Key) -> AsyncIterator[FileUpload]:
    """Read the form; its file is deleted at the end of the block. Raises `Invalid`, `Denied`, `TooLarge`."""
    async with request.form(max_files=1, max_fields=10) as fields:
        values = dict(fields)
        file = values.pop("file", None)
        if not isinstance(file, UploadFile):
            raise Invalid("file_missing", "the form has no file; send it as the form's field `file`")
        try:
            form = FileForm.model_validate(values)
        except ValidationError as error:
            wrong = [{**e, "loc": ("body", *e["loc"])} for e in error.errors()]
            raise RequestValidationError(wrong) from error
        check_scope(caller, Purpose(form.purpose))
        _check_size(form, file.size or 0)
        with tempfile.TemporaryDirectory(prefix="signalbox-upload-") as folder:
            path = Path(folder) / "file"
            size_bytes, sha256 = await asyncio.to_thread(_copy, file, path)
            yield FileUpload(form, _name_of(file), path, size_bytes, sha256)


async def store(clients: Clients, caller: Key, upload: FileUpload) -> StoredFile:
    """Store an upload; raises `TooLarge`, `Unavailable`."""
    kept_seconds = upload.form.kept_seconds
    file = StoredFile(
        id=f"file-{secrets.token_hex(12)}",
        **caller.signature,
        filename=upload.filename,
        purpose=Purpose(upload.form.purpose),
        size_bytes=upload.size_bytes,
        sha256=upload.sha256,
        expires_at=int(time.time()) + kept_seconds if kept_seconds else 0,
    )
    await asyncio.to_thread(_store, clients, file, upload.path)
    return file


async def find(clients: Clients, caller: Key, file_id: str) -> StoredFile:
    """Return a file that the key may read; raises `NotFound`."""
    return await asyncio.to_thread(clients.registry.files.get, caller.tenant_id, file_id, caller.sees)


async def remove(clients: Clients, caller: Key, file: StoredFile) -> None:
    """Delete a file; batches made of it have their own copy. Raises `Denied`."""
    check_scope(caller, file.purpose)
    await asyncio.to_thread(clients.registry.files.remove, file)


async def content(clients: Clients, file: StoredFile) -> AsyncIterator[bytes]:
    """Return the content piece by piece; the first one is read before it returns. Raises `NotFound`, `Unavailable`."""
    return await streamed(clients.registry.files.pieces(file))


def check_scope(caller: Key, purpose: Purpose) -> None:
    """Raise `Denied` where the key may not add or delete files of this purpose."""
    caller.check(*_SCOPES[purpose])


def may_change(caller: Key, purpose: Purpose) -> bool:
    """Whether the key may add and delete files of this purpose."""
    return any(map(caller.may, _SCOPES[purpose]))


def _check_size(form: FileForm, size_bytes: int) -> None:
    if form.purpose == "batch" and size_bytes > MAX_BATCH_BYTES:
        raise TooLarge(
            "file_too_large",
            f"a file of a batch has {MAX_BATCH_BYTES >> 20} MiB at most, this one {size_bytes / 2**20:.1f}: split it",
        )


def _store(clients: Clients, file: StoredFile, path: Path) -> None:
    _check_room(clients, file)
    clients.registry.files.add(file, path)


def _check_room(clients: Clients, file: StoredFile) -> None:
    """Raise `TooLarge` where the tenant would keep more than it may; uploads at the same time do not see each other."""
    known = clients.registry.files.list_all(file.tenant_id)
    if len(known) >= MAX_FILES:
        raise TooLarge(
            "too_many_files",
            f"this tenant keeps {MAX_FILES} files: delete some (DELETE /v1/files/ID), or let them expire",
        )
    most_mib = clients.settings.max_files_mib
    kept_bytes = sum(one.size_bytes for one in known)
    if most_mib and kept_bytes + file.size_bytes > most_mib << 20:
        raise TooLarge(
            "storage_full",
            f"files take {kept_bytes / 2**20:.1f} of {most_mib} MiB, this has {file.size_bytes / 2**20:.1f}: delete "
            "some (DELETE /v1/files/ID), upload with expires_after, or let an operator raise SIGNALBOX_MAX_FILES_MIB",
        )


def _copy(file: UploadFile, path: Path) -> tuple[int, str]:
    digest, size_bytes = hashlib.sha256(), 0
    with path.open("wb") as out:
        while piece := file.file.read(_PIECE_BYTES):
            out.write(piece)
            digest.update(piece)
            size_bytes += len(piece)
    return size_bytes, digest.hexdigest()


def _name_of(file: UploadFile) -> str:
    """The name without its folders, and with `?` for what is no character."""
    name = PurePosixPath((file.filename or "file").replace("\\", "/")).name
    return "".join(sign if sign.isprintable() else "?" for sign in name)[-_MAX_NAME_CHARS:] or "file"
