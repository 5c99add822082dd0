"""Corpora: files stored by the digest of their content, and the manifests that name them."""

import hashlib
import secrets
from collections.abc import Iterator
from pathlib import Path

from shared.contracts.corpora import MAX_FILES, CorpusFile, CorpusManifest, corpus_id
from shared.errors import Conflict, Invalid, NotFound
from shared.registry.records import Records
from shared.registry.store import ObjectStore
from shared.registry.store_errors import Corrupt


class Corpora:
    """The corpora of every tenant."""

    def __init__(self, records: Records[CorpusManifest], store: ObjectStore) -> None:
        self._records = records
        self._store = store

    def add_file(self, tenant_id: str, name: str, file: CorpusFile, path: Path) -> CorpusManifest:
        """Store a file as one of the newest corpus of this name, or of a new one; one of the same name is replaced.

        Raises `Conflict` `corpus_closed` where a job has made that corpus or has made another of it.
        """
        self._store.put_file(_key(tenant_id, file), path)

        def joined() -> tuple[str, CorpusManifest]:
            known = self._records.newest(tenant_id, "name", name)
            if known is None:
                known = CorpusManifest(tenant_id=tenant_id, id=corpus_id(secrets.token_hex()), name=name, files=())
            self._check_open(known)
            manifest = known.with_file(file)
            if len(manifest.files) > MAX_FILES:
                raise Invalid("corpus_too_large", f"corpus {name!r} has {MAX_FILES} files: join some, or add another")
            return manifest.id, manifest

        return self._records.settle(tenant_id, joined)

    def add_made(self, manifest: CorpusManifest, path: Path) -> None:
        """Store a corpus of the one file at `path`, which a job made; a repeated call changes nothing."""
        self._store.put_file(_key(manifest.tenant_id, manifest.files[0]), path)
        self._records.add(manifest.tenant_id, manifest.id, manifest)

    def get(self, tenant_id: str, ref: str) -> CorpusManifest:
        """Return one corpus by id, or the newest of a name; raises `NotFound`."""
        found = self._records.newest(tenant_id, "id", ref) or self._records.newest(tenant_id, "name", ref)
        if found is None:
            raise NotFound("corpus_not_found", f"no corpus {ref[:80]!r}: `signalbox corpora list` shows what there is")
        return found

    def list_all(self, tenant_id: str) -> list[CorpusManifest]:
        """List all corpora, oldest first."""
        return sorted(self._records.list_all(tenant_id), key=lambda one: (one.created_at, one.id))

    def remove(self, manifest: CorpusManifest) -> None:
        """Remove the record of a corpus; its files stay until nothing names them."""
        self._records.remove(manifest.tenant_id, manifest.id, manifest)

    def pieces(self, manifest: CorpusManifest, file: CorpusFile) -> Iterator[bytes]:
        """Yield a file's content; raises `NotFound`, `Unavailable`."""
        return self._store.pieces(_key(manifest.tenant_id, file))

    def fetch(self, tenant_id: str, file: CorpusFile, path: Path) -> None:
        """Write a file's content to `path`; raises `NotFound`, `Unavailable`, `Corrupt` where its digest is another."""
        self._store.get_file(_key(tenant_id, file), path)
        with path.open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != file.sha256:
                raise Corrupt("corpus_file", file.name)

    def _check_open(self, manifest: CorpusManifest) -> None:
        made = manifest.made_by or any(
            one.made_from == manifest.id for one in self._records.list_all(manifest.tenant_id)
        )
        if made:
            raise Conflict(
                "corpus_closed",
                f"corpus {manifest.name!r} is cleaned and takes no more files: add them under another name",
            )


def named_file(manifest: CorpusManifest, name: str) -> CorpusFile:
    """Return the file of this name, or the only one where it is empty; raises `NotFound`, `Invalid`."""
    if not name and len(manifest.files) > 1:
        raise Invalid(
            "file_missing", f"corpus {manifest.name!r} has {len(manifest.files)} files: name one of them by `file`"
        )
    found = next((file for file in manifest.files if name in ("", file.name)), None)
    if found is None:
        raise NotFound("file_not_found", f"corpus {manifest.name!r} has no file {name[:80]!r}: look at its `files`")
    return found


def _key(tenant_id: str, file: CorpusFile) -> str:
    return f"tenants/{tenant_id}/corpus_files/{file.sha256}"
