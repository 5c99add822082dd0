"""Uploads of data sets: rows are checked and written to a file as they arrive, then stored."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

from fastapi import Request
from starlette.datastructures import UploadFile

from services.api.infra.clients import Clients
from services.api.infra.stored import check_room
from shared.contracts.labels import parse_label
from shared.contracts.manifests import DatasetManifest
from shared.contracts.rows import Row, RowParser, check_dataset_name, id_of_digest
from shared.errors import Invalid
from shared.registry.datasets import RowFile

_PIECE_BYTES = 256 << 10


class DatasetUpload:
    """The rows of one upload, or why they are refused."""

    def __init__(self, file: RowFile) -> None:
        self.refusal: Invalid | None = None
        self._file = file
        self._parser = RowParser(check=_check_label)

    @property
    def sha256(self) -> str:
        """The digest of the uploaded bytes; of a refused upload, of those that decided it."""
        return self._parser.sha256.hexdigest()

    def take(self, piece: bytes) -> None:
        """Check and write the rows that this piece completes; blocking."""
        try:
            for row in self._parser.feed(piece) if piece else self._parser.end():
                self._file.add(row)
        except Invalid as error:
            self.refusal = error

    async def store(self, clients: Clients, tenant_id: str, name: str) -> DatasetManifest:
        """Store the rows; raises `Invalid` that names the wrong lines, `TooLarge`, `Unavailable`."""
        check_dataset_name(name)
        if self.refusal:
            raise self.refusal
        return await asyncio.to_thread(self._store, clients, tenant_id, name)

    def _store(self, clients: Clients, tenant_id: str, name: str) -> DatasetManifest:
        check_room(clients, tenant_id, id_of_digest(self._file.sha256.hexdigest()), self._file.size_bytes)
        return clients.registry.datasets.add_file(tenant_id, name, self._file)


def _check_label(row: Row) -> None:
    if row.label:
        parse_label(row.label)


@contextlib.asynccontextmanager
async def received(request: Request) -> AsyncIterator[DatasetUpload]:
    """Read rows until the upload ends or is known to be refused; its file is deleted at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="signalbox-upload-") as folder, RowFile(Path(folder) / "rows") as file:
        upload = DatasetUpload(file)
        async with contextlib.aclosing(_pieces(request)) as pieces:
            async for piece in pieces:
                await asyncio.to_thread(upload.take, piece)
                if upload.refusal:
                    break
        yield upload


async def _pieces(request: Request) -> AsyncGenerator[bytes, None]:
    """Yield the rows' bytes, from the body or from the field `file` of a form, and an empty piece at their end."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        gathered = bytearray()
        async for chunk in request.stream():
            gathered += chunk
            if len(gathered) >= _PIECE_BYTES:
                yield bytes(gathered)
                gathered.clear()
        if gathered:
            yield bytes(gathered)
    else:
        async with request.form(max_files=1, max_fields=10) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise Invalid("file_missing", "the form has no file; send the rows as its field `file`")
            while piece := await file.read(_PIECE_BYTES):
                yield piece
    yield b""
