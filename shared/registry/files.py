"""Files of clients and batches: contents in the object store, by file and digest, and their records."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from shared.contracts.files import StoredFile
from shared.errors import NotFound
from shared.registry.records import Records
from shared.registry.store import ObjectStore
from shared.registry.store_errors import Corrupt


class Files:
    """The files of every tenant; each has its own copy of its content, which goes when the file is deleted."""

    def __init__(self, records: Records[StoredFile], store: ObjectStore) -> None:
        self._records = records
        self._store = store

    def add(self, file: StoredFile, path: Path) -> None:
        """Store the content at `path`, then the record; a repeated call changes nothing."""
        self._store.put_file(content_key(file), path)
        self._records.add(file.tenant_id, file.id, file)

    def get(self, tenant_id: str, file_id: str, line: str = "") -> StoredFile:
        """Return a file of this tenant and this line of keys (of any, where it is empty); raises `NotFound`."""
        found = self._records.get(tenant_id, file_id)
        if found is None or found.has_expired or (line and found.key_line != line):
            raise NotFound(
                "file_not_found",
                f"no file {file_id[:64]!r}: it was deleted, has expired, or is another key's; GET /v1/files lists",
            )
        return found

    def list_all(self, tenant_id: str, line: str = "") -> list[StoredFile]:
        """List the files of this tenant and line of keys, oldest first, without those that have expired."""
        seen = (one for one in self._records.list_all(tenant_id) if not line or one.key_line == line)
        return sorted((one for one in seen if not one.has_expired), key=lambda one: (one.created_at, one.id))

    def expired(self, tenant_id: str) -> list[StoredFile]:
        """List the files whose time is over."""
        return [one for one in self._records.list_all(tenant_id) if one.has_expired]

    def remove(self, file: StoredFile) -> None:
        """Delete a file: its record first, then its content."""
        self._records.remove(file.tenant_id, file.id, file)
        self._store.delete(content_key(file))

    def pieces(self, file: StoredFile) -> Iterator[bytes]:
        """Yield the content; raises `NotFound`, `Unavailable`."""
        return self._store.pieces(content_key(file))

    def fetch(self, file: StoredFile, path: Path) -> None:
        """Write the content to `path`; raises `NotFound`, `Unavailable`, `Corrupt` where its digest is another."""
        self._store.get_file(content_key(file), path)
        with path.open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != file.sha256:
                raise Corrupt("file", file.id)


def content_key(file: StoredFile) -> str:
    """Return the key of a file's content in the object store."""
    return f"tenants/{file.tenant_id}/files/{file.id}/{file.sha256}"
