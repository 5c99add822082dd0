"""Data sets: rows stored by the digest of their content, and their names."""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Self

from redis import Redis

from shared.contracts.dataset_manifest import DatasetManifest
from shared.contracts.judged import JudgedRow, dump_judged, parse_judged
from shared.contracts.manifests import Release
from shared.contracts.rows import Row, RowSource, dataset_id, dump_row, dump_rows, id_of_digest, parse_rows
from shared.errors import Invalid, NotFound
from shared.ledger.keys import LedgerKey
from shared.registry.records import Records
from shared.registry.store import ObjectStore
from shared.registry.store_errors import Corrupt

FEEDBACK_DATASET = "feedback"
SAFE_DATASET = "feedback-safe"
"""The rows of feedback that may train without a person."""
MAX_LABELS = 10_000
"""Different labels in one data set: its manifest, a record of the ledger, counts the rows of each."""


class RowFile:
    """Canonical rows, written one by one to a file of the caller's, and what a manifest says of them."""

    def __init__(self, path: Path) -> None:
        self.sha256 = hashlib.sha256()
        self.labels: Counter[str] = Counter()
        self.row_count = self.size_bytes = self.input_bytes = 0
        self._path = path
        self._out = path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._out.close()

    def add(self, row: Row) -> None:
        """Write one row; raises `Invalid` where the file has too many different labels."""
        line = dump_row(row)
        self._out.write(line)
        self.sha256.update(line)
        self.row_count += 1
        self.size_bytes += len(line)
        self.input_bytes += len(row.input.encode())
        if row.label:
            self.labels[row.label] += 1
            if len(self.labels) > MAX_LABELS:
                raise Invalid("dataset_too_large", f"more than {MAX_LABELS} different labels; split the file")

    def flushed(self) -> Path:
        """Return the path of the file, which then holds every row."""
        self._out.flush()
        return self._path


class Datasets:
    """The data sets of every tenant, and the rows that belong to releases."""

    def __init__(self, redis: Redis, records: Records[DatasetManifest], store: ObjectStore) -> None:
        self._redis = redis
        self._records = records
        self._store = store

    def add(self, tenant_id: str, name: str, rows: list[Row], *, sources: str = "") -> DatasetManifest:
        """Store rows under the id of their content, with the id of their sources; the name then refers to them."""
        with tempfile.TemporaryDirectory(prefix="signalbox-rows-") as folder, RowFile(Path(folder) / "rows") as file:
            for row in rows:
                file.add(row)
            return self.add_file(tenant_id, name, file, sources=sources)

    def add_file(self, tenant_id: str, name: str, file: "RowFile", *, sources: str = "") -> DatasetManifest:
        """Store rows that were written to a file, as `add` does."""
        manifest = DatasetManifest(
            tenant_id=tenant_id,
            id=id_of_digest(file.sha256.hexdigest()),
            name=name,
            rows=file.row_count,
            labels=dict(file.labels),
            size_bytes=file.size_bytes,
            input_bytes=file.input_bytes,
            sources=sources,
        )
        self._store.put_file(_rows_key(manifest), file.flushed())
        known = self._records.newest(tenant_id, "name", name)
        if known and (known.id, known.sources) == (manifest.id, sources):
            return known
        self._records.add(tenant_id, _entry(manifest), manifest)
        return manifest

    def remove(self, tenant_id: str, dataset_id: str) -> None:
        """Remove the records of a data set under all its names; its rows stay until nothing names them."""
        for manifest in self._records.matching(tenant_id, "id", dataset_id):
            self._records.remove(tenant_id, _entry(manifest), manifest)

    def forget_feedback(self, tenant_id: str) -> None:
        """Forget the rows that were made from feedback, and the data sets that were made of them."""
        self._redis.delete(LedgerKey.FEEDBACK.of(tenant_id), LedgerKey.FEEDBACK_SOURCES.of(tenant_id))
        for name in (FEEDBACK_DATASET, SAFE_DATASET):
            for manifest in self._records.matching(tenant_id, "name", name):
                self._records.remove(tenant_id, _entry(manifest), manifest)

    def list_all(self, tenant_id: str) -> list[DatasetManifest]:
        """List all data sets, oldest first."""
        return sorted(self._records.list_all(tenant_id), key=lambda manifest: manifest.created_at)

    def get(self, tenant_id: str, ref: str) -> DatasetManifest:
        """Return one data set by id, or the newest of a name; raises `NotFound`.

        The data set `feedback` is made of the feedback on jobs.
        """
        return self.feedback(tenant_id) if ref == FEEDBACK_DATASET else self.stored(tenant_id, ref)

    def stored(self, tenant_id: str, ref: str) -> DatasetManifest:
        """Return one data set by id, or the newest of a name, as it was stored; raises `NotFound`."""
        found = self._records.newest(tenant_id, "id", ref) or self._records.newest(tenant_id, "name", ref)
        if found is None:
            raise NotFound("dataset_not_found", f"no data set {ref!r}; `signalbox datasets list` shows what there is")
        return found

    def rows(self, tenant_id: str, ref: str) -> list[Row]:
        """Return the rows of a data set; raises `NotFound`, `Unavailable`, `Corrupt`."""
        return self.get_rows(_rows_key(self.get(tenant_id, ref)))

    def put_rows(self, tenant_id: str, rows: list[Row]) -> str:
        """Store rows that belong to a release (a representation or validation set); returns their key."""
        return self._put_lines(tenant_id, dump_rows(rows))

    def get_rows(self, key: str) -> list[Row]:
        """Return the rows of a key, whose last part is their id; raises `NotFound`, `Unavailable`, `Corrupt`."""
        return parse_rows(self._lines(key))

    def put_judged(self, tenant_id: str, rows: Sequence[JudgedRow]) -> str:
        """Store the rows that a release was judged on; returns their key, which its report names."""
        return self._put_lines(tenant_id, dump_judged(rows))

    def judged_rows(self, release: Release) -> list[JudgedRow]:
        """Return the rows that a release was judged on, none where it is older than these; raises as `get_rows`."""
        key = release.report.get("judged", "")
        return parse_judged(self._lines(key)) if key else []

    def sources(self, manifest: DatasetManifest) -> list[RowSource]:
        """Return where each row of a data set comes from; empty where that is not noted. Raises as `get_rows`."""
        lines = self._lines(_set_key(manifest.tenant_id, manifest.sources)) if manifest.sources else b""
        return [RowSource.model_validate_json(line) for line in lines.splitlines()]

    def is_of_feedback(self, tenant_id: str, ref: str) -> bool:
        """Whether a data set's rows come from feedback, under whichever of its names; raises `NotFound`."""
        same = self._records.matching(tenant_id, "id", self.stored(tenant_id, ref).id)
        return any(manifest.sources for manifest in same)

    def said_rows(self, tenant_id: str) -> list[tuple[RowSource, Row]]:
        """Return a row for each job with reviewed feedback, with its source, by the ids of the jobs.

        Where a reviewer only rated an answer, the row has neither label nor output.
        """
        rows: Any = self._redis.hgetall(LedgerKey.FEEDBACK.of(tenant_id))
        sources: Any = self._redis.hgetall(LedgerKey.FEEDBACK_SOURCES.of(tenant_id))
        return [(RowSource.read(job, sources.get(job, "")), Row.model_validate_json(rows[job])) for job in sorted(rows)]

    def feedback_rows(self, tenant_id: str) -> list[tuple[RowSource, Row]]:
        """Return the rows that feedback has made by now, each with its source, by the ids of their jobs."""
        return [(source, row) for source, row in self.said_rows(tenant_id) if row.label or row.output]

    def feedback(self, tenant_id: str) -> DatasetManifest:
        """Store these rows and their sources as the newest version of `feedback`; raises `NotFound` without any."""
        found = self.feedback_rows(tenant_id)
        if not found:
            raise NotFound("dataset_not_found", "no feedback has a label or an output; POST /v1/jobs/{id}/feedback")
        return self.add_sourced(tenant_id, FEEDBACK_DATASET, found)

    def add_sourced(self, tenant_id: str, name: str, found: Sequence[tuple[RowSource, Row]]) -> DatasetManifest:
        """Store rows, each with where it comes from; equal rows of equal sources are one version of the name."""
        lines = "".join(source.model_dump_json(exclude_defaults=True) + "\n" for source, _ in found)
        sources = PurePosixPath(self._put_lines(tenant_id, lines.encode())).stem
        return self.add(tenant_id, name, [row for _, row in found], sources=sources)

    def _put_lines(self, tenant_id: str, data: bytes) -> str:
        key = _set_key(tenant_id, dataset_id(data))
        self._store.put(key, data)
        return key

    def _lines(self, key: str) -> bytes:
        data = self._store.get(key)
        if dataset_id(data) != (name := PurePosixPath(key).stem):
            raise Corrupt("dataset", name)
        return data


def _entry(manifest: DatasetManifest) -> str:
    """Return the record's name, another for each name and time: manifests are never overwritten."""
    return f"{manifest.id}:{manifest.name}:{manifest.created_at}"


def _set_key(tenant_id: str, set_id: str) -> str:
    return f"tenants/{tenant_id}/sets/{set_id}.jsonl"


def _rows_key(manifest: DatasetManifest) -> str:
    return f"tenants/{manifest.tenant_id}/datasets/{manifest.id}.jsonl"
