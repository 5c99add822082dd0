"""Uploads of data sets: rows are checked and written to a file as they arrive, then stored."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile

from services.api.datasets.options import ReadingOptions
from services.api.infra.clients import Clients
from services.api.infra.stored import check_room
from shared.contracts.dataset_manifest import DatasetManifest
from shared.contracts.rows import check_dataset_name, id_of_digest
from shared.data_files.preview import Preview
from shared.data_files.reader import RowReader
from shared.errors import Invalid
from shared.registry.datasets import RowFile

_PIECE_BYTES = 256 << 10


class DatasetUpload:
    """The rows of one upload, or why they are refused."""

    def __init__(self, file: RowFile, options: ReadingOptions, max_bytes: int, preview: Preview | None) -> None:
        self.refusal: Invalid | None = None
        self._options = options
        self._file, self._preview = file, preview
        self._reader = RowReader(
            options.parsed_columns, accept_labels=options.accept_labels, max_unpacked_bytes=max_bytes
        )

    @property
    def request(self) -> dict[str, Any]:
        """What a repeated upload is recognised by: how to read, and the digest of the rows that decided it."""
        return {"sha256": self._reader.sha256.hexdigest(), **self._options.given}

    @property
    def said(self) -> dict[str, Any]:
        """What the file turned out to be, and what was changed on the way."""
        renamed = [one.as_fields() for one in self._reader.names.renamed]
        return {"format": self._reader.format, "notes": self._reader.notes, "renamed_labels": renamed}

    def take(self, piece: bytes) -> None:
        """Check and write the rows that this piece completes; blocking."""
        try:
            for found in self._reader.feed(piece) if piece else self._reader.end():
                self._file.add(found.row)
                if self._preview:
                    self._preview.add(found.row)
        except Invalid as error:
            self.refusal = error

    async def store(self, clients: Clients, tenant_id: str, name: str) -> DatasetManifest:
        """Store the rows; raises `Invalid` that names the wrong lines, `TooLarge`, `Unavailable`."""
        check_dataset_name(name)
        if self.refusal:
            raise self.refusal
        return await asyncio.to_thread(self._store, clients, tenant_id, name)

    def check(self) -> dict[str, Any]:
        """Return what the rows are and how they will be trained; raises `Invalid` that names the wrong lines."""
        if self.refusal:
            raise self.refusal
        return {
            **self.said,
            "rows": self._file.row_count,
            "labels": dict(self._file.labels),
            **(self._preview.as_fields() if self._preview else {}),
        }

    def _store(self, clients: Clients, tenant_id: str, name: str) -> DatasetManifest:
        check_room(clients, tenant_id, id_of_digest(self._file.sha256.hexdigest()), self._file.size_bytes)
        return clients.registry.datasets.add_file(tenant_id, name, self._file)


@contextlib.asynccontextmanager
async def received(
    request: Request, options: ReadingOptions, max_bytes: int, preview: Preview | None = None
) -> AsyncIterator[DatasetUpload]:
    """Read rows until the upload ends or is known to be refused; its file is deleted at the end of the block.

    `max_bytes` bounds what a packed upload unpacks to; a `preview` takes in every row.
    """
    with tempfile.TemporaryDirectory(prefix="signalbox-upload-") as folder, RowFile(Path(folder) / "rows") as file:
        async with _body(request, options) as (asked, pieces):
            upload = DatasetUpload(file, asked, max_bytes, preview)
            async for piece in pieces:
                await asyncio.to_thread(upload.take, piece)
                if upload.refusal:
                    break
        yield upload


@contextlib.asynccontextmanager
async def _body(
    request: Request, options: ReadingOptions
) -> AsyncIterator[tuple[ReadingOptions, AsyncGenerator[bytes, None]]]:
    """The body's rows, or those of a form's field `file`; a form may say how they are to be read."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        async with contextlib.aclosing(_streamed(request)) as pieces:
            yield options, pieces
        return
    async with request.form(max_files=1, max_fields=10) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise Invalid("file_missing", "the form has no file; send the rows as its field `file`")
        async with contextlib.aclosing(_of_file(file)) as pieces:
            yield options.with_form(form), pieces


async def _streamed(request: Request) -> AsyncGenerator[bytes, None]:
    """Yield the body in pieces, and an empty one at its end."""
    gathered = bytearray()
    async for chunk in request.stream():
        gathered += chunk
        if len(gathered) >= _PIECE_BYTES:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)
    yield b""


async def _of_file(file: UploadFile) -> AsyncGenerator[bytes, None]:
    while piece := await file.read(_PIECE_BYTES):
        yield piece
    yield b""
