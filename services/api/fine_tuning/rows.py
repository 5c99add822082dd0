"""Files of the purpose `fine-tune` made data sets, by the same reader as uploads of data sets."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from services.api.files import service as files
from services.api.infra.clients import Clients
from services.api.infra.stored import check_room
from shared.contracts.files import Purpose, StoredFile
from shared.contracts.rows import id_of_digest
from shared.data_files.reader import RowReader
from shared.errors import Invalid
from shared.registry.datasets import RowFile
from shared.security.api_keys import Key


class FieldRefused(Invalid):
    """A field of the request cannot be honoured."""

    def __init__(self, param: str, code: str, detail: str, members: dict[str, Any] | None = None) -> None:
        super().__init__(code, detail)
        self.param = param
        self._members = members or {}

    @property
    def members(self) -> dict[str, Any]:
        """What a caller is told besides, such as the wrong lines of a file."""
        return self._members


async def dataset_of(clients: Clients, caller: Key, param: str, file_id: str, name: str) -> str:
    """Store the rows of a file as a data set; returns its id. Raises `FieldRefused`, which names the wrong lines."""
    file = await files.find(clients, caller, file_id)
    if file.purpose is not Purpose.FINE_TUNE:
        raise FieldRefused(
            param, "invalid_file_purpose", f"file {file_id} has the purpose {file.purpose}: upload it for `fine-tune`"
        )
    try:
        return await asyncio.to_thread(_store, clients, file, name)
    except Invalid as error:
        raise FieldRefused(param, error.code, error.detail, error.members) from error


def _store(clients: Clients, file: StoredFile, name: str) -> str:
    reader = RowReader({}, max_unpacked_bytes=clients.settings.max_upload_bytes)
    with tempfile.TemporaryDirectory(prefix="signalbox-rows-") as folder, RowFile(Path(folder) / "rows") as rows:
        for piece in clients.registry.files.pieces(file):
            for found in reader.feed(piece):
                rows.add(found.row)
        for found in reader.end():
            rows.add(found.row)
        check_room(clients, file.tenant_id, id_of_digest(rows.sha256.hexdigest()), rows.size_bytes)
        return clients.registry.datasets.add_file(file.tenant_id, name, rows).id
