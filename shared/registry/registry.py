"""Adapters, data sets and releases: contents in the object store, an index and the one pointer in Redis."""

import hashlib
import json
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME, adapter_digest
from shared.contracts.jobs import Job
from shared.contracts.manifests import AdapterManifest, DatasetManifest, Release
from shared.contracts.rows import Row, dataset_id, dump_rows, parse_rows
from shared.errors import Conflict, Invalid, NotFound, Unavailable
from shared.ledger import Ledger, calls
from shared.registry.store import ObjectStore, as_disk_error

FEEDBACK_DATASET = "feedback"


class Registry:
    """What a tenant has; contents are never overwritten, only the release pointer moves."""

    def __init__(self, ledger: Ledger, store: ObjectStore, cache_dir: Path) -> None:
        self._ledger = ledger
        self._redis = ledger.redis
        self.store = store
        self._cache_dir = cache_dir

    def with_store(self, store: ObjectStore) -> "Registry":
        """The same registry over the same objects, reached another way (with patience, say)."""
        return Registry(self._ledger, store, self._cache_dir)

    # Weights: adapters and selectors alike are LoRA folders, stored under their digest.

    def put_weights(self, folder: Path) -> str:
        """Store an adapter folder that was checked before; answers its digest."""
        digest = adapter_digest(folder)
        for name in (CONFIG_NAME, WEIGHTS_NAME):  # weights last: they are what `has_weights` looks for
            self.store.put_file(f"adapters/{digest}/{name}", folder / name)
        return digest

    def has_weights(self, digest: str) -> bool:
        """Whether the store holds the weights of this digest."""
        return self.store.exists(f"adapters/{digest}/{WEIGHTS_NAME}")

    def fetch_weights(self, digest: str) -> Path:
        """A local folder with the adapter, its digest verified on every download; raises `Unavailable`, `NotFound`."""
        folder = self._cache_dir / "adapters" / digest
        if folder.is_dir():
            return folder
        with as_disk_error():
            folder.parent.mkdir(parents=True, exist_ok=True)
            part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".part-"))
        try:
            for name in (CONFIG_NAME, WEIGHTS_NAME):
                self.store.get_file(f"adapters/{digest}/{name}", part / name)
            if adapter_digest(part) != digest:
                raise Unavailable(
                    "adapter_corrupt", f"the store's copy of adapter {digest[:12]} does not match its digest"
                )
            if not folder.is_dir():
                _rename(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return folder

    # Light selectors: one file, stored under the SHA-256 of its content.

    def put_light(self, file: Path) -> str:
        """Store a light selector's file; answers its digest."""
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        self.store.put_file(_light_key(digest), file)
        return digest

    def fetch_light(self, digest: str) -> Path:
        """A local copy of the file, its digest verified on download; raises `Unavailable`, `NotFound`."""
        file = self._cache_dir / "light" / f"{digest}.safetensors"
        if file.is_file():
            return file
        with as_disk_error():
            file.parent.mkdir(parents=True, exist_ok=True)
        with as_disk_error(), tempfile.TemporaryDirectory(dir=file.parent, prefix=".part-") as folder:
            part = Path(folder) / file.name
            self.store.get_file(_light_key(digest), part)
            if hashlib.sha256(part.read_bytes()).hexdigest() != digest:
                raise Unavailable(
                    "selector_corrupt", f"the store's copy of selector {digest[:12]} does not match its digest"
                )
            part.rename(file)
        return file

    # Adapters.

    def add_adapter(self, folder: Path, manifest: AdapterManifest) -> AdapterManifest:
        """Store weights and give them the label's next version; the same weights again answer the version they have."""
        digest = self.put_weights(folder)
        for known in self.adapters(manifest.tenant_id, manifest.label):
            if (known.digest, known.template, known.instruction) == (digest, manifest.template, manifest.instruction):
                return known
        version = int(self._redis.hincrby(f"sb:versions:{manifest.tenant_id}", manifest.label, 1))
        manifest = manifest.model_copy(update={"digest": digest, "version": version})
        self._keep("adapters", manifest.tenant_id, manifest.ref, manifest.model_dump_json())
        return manifest

    def adapters(self, tenant_id: str, label: str = "") -> list[AdapterManifest]:
        """All versions, of one label or of all, ordered by label and version."""
        found = map(AdapterManifest.model_validate_json, self._all("adapters", tenant_id))
        return sorted((m for m in found if not label or m.label == label), key=lambda m: (m.label, m.version))

    def adapter(self, tenant_id: str, ref: str) -> AdapterManifest:
        """One adapter by `label@n`, by label (the newest version) or by digest; raises `NotFound`."""
        found = [m for m in self.adapters(tenant_id) if ref in (m.ref, m.label, m.digest)]
        if not found:
            raise NotFound("adapter_not_found", f"no adapter {ref!r}; `signalbox adapters list` shows what there is")
        return found[-1]

    # Data sets.

    def add_dataset(self, tenant_id: str, name: str, rows: list[Row]) -> DatasetManifest:
        """Store rows under the id of their content, and let the name mean them from now on."""
        data = dump_rows(rows)
        manifest = DatasetManifest(
            tenant_id=tenant_id,
            id=dataset_id(data),
            name=name,
            rows=len(rows),
            labels=dict(Counter(row.label for row in rows if row.label)),
            size_bytes=len(data),
        )
        self.store.put(f"tenants/{tenant_id}/datasets/{manifest.id}.jsonl", data)
        known = [m for m in self.datasets(tenant_id) if m.name == name][-1:]
        if known and known[0].id == manifest.id:
            return known[0]
        entry = f"{manifest.id}:{name}:{manifest.created_at}"  # of its own: manifests are never overwritten
        self._keep("datasets", tenant_id, entry, manifest.model_dump_json())
        return manifest

    def datasets(self, tenant_id: str) -> list[DatasetManifest]:
        """All data sets, oldest first."""
        found = map(DatasetManifest.model_validate_json, self._all("datasets", tenant_id))
        return sorted(found, key=lambda m: m.created_at)

    def dataset(self, tenant_id: str, ref: str) -> DatasetManifest:
        """One data set by id, or the newest of a name; `feedback` is made of what users said; raises `NotFound`."""
        if ref == FEEDBACK_DATASET:
            return self._feedback_dataset(tenant_id)
        known = self.datasets(tenant_id)
        found = [m for m in known if m.id == ref] or [m for m in known if m.name == ref]
        if not found:
            raise NotFound("dataset_not_found", f"no data set {ref!r}; `signalbox datasets list` shows what there is")
        return found[-1]

    def rows(self, tenant_id: str, ref: str) -> list[Row]:
        """The rows of a data set; raises `NotFound`, `Unavailable`."""
        manifest = self.dataset(tenant_id, ref)
        return parse_rows(self.store.get(f"tenants/{tenant_id}/datasets/{manifest.id}.jsonl"))

    def put_rows(self, tenant_id: str, rows: list[Row]) -> str:
        """Store rows that belong to a release (a representation or validation set); answers their key."""
        data = dump_rows(rows)
        key = f"tenants/{tenant_id}/sets/{dataset_id(data)}.jsonl"
        self.store.put(key, data)
        return key

    def get_rows(self, key: str) -> list[Row]:
        """Read what `put_rows` stored."""
        return parse_rows(self.store.get(key))

    def _feedback_dataset(self, tenant_id: str) -> DatasetManifest:
        said = self._redis.hgetall(f"sb:feedback:{tenant_id}")
        rows = [Row.model_validate_json(said[job_id]) for job_id in sorted(said)]
        rows = [row for row in rows if row.label or row.output]  # a bad rating alone says nothing to learn from
        if not rows:
            raise NotFound("dataset_not_found", "no feedback has a label or an output; POST /v1/jobs/{id}/feedback")
        return self.add_dataset(tenant_id, FEEDBACK_DATASET, rows)

    # Releases.

    def add_release(self, release: Release) -> str:
        """Store a candidate; raises `Conflict` where it names an adapter or a selector that the store does not hold.

        A label that names no adapter is no obstacle here, only to the promotion.
        """
        self._check_whole(release)
        self._keep("releases", release.tenant_id, release.id, release.model_dump_json())
        return release.id

    def release(self, tenant_id: str, release_id: str) -> Release:
        """One release; raises `NotFound`."""
        raw = self._redis.hget(f"sb:releases:{tenant_id}", release_id)
        if raw is None:
            raise NotFound("release_not_found", f"no release {release_id!r}; `signalbox releases list` shows them")
        return Release.model_validate_json(raw)

    def releases(self, tenant_id: str) -> list[Release]:
        """All releases, oldest first."""
        return sorted(map(Release.model_validate_json, self._all("releases", tenant_id)), key=lambda r: r.created_at)

    def current_id(self, tenant_id: str) -> str:
        """Id of the current release; empty where there is none."""
        return str(self._redis.get(f"sb:release:{tenant_id}") or "")

    def promotions(self, tenant_id: str) -> list[dict[str, Any]]:
        """Every move of the pointer, oldest first."""
        return [json.loads(raw) for raw in self._redis.lrange(f"sb:promotions:{tenant_id}", 0, -1)]

    def promote(
        self, tenant_id: str, release_id: str, *, force: bool = False, by: str = "", attempt: Job | None = None
    ) -> Release:
        """Make a candidate current in one step; raises `Conflict` where gate, parent, adapters or workers forbid it.

        `attempt` is the job on whose behalf it happens: raises `StaleAttempt` where another attempt has it now.
        """
        release = self.release(tenant_id, release_id)
        if not (release.verdict.passed or force):
            raise Conflict("gate_failed", " ".join(release.verdict.reasons) + " Promote with force to overrule it.")
        self._move(release, expected=release.parent, force=force, by=by, attempt=attempt)
        return release

    def rollback(self, tenant_id: str, *, to: str = "", by: str = "") -> Release:
        """Go back to the current release's parent, or to one that was current before; the same step backwards."""
        current = self.current_id(tenant_id)
        target = to or (self.release(tenant_id, current).parent if current else "")
        if not target:
            raise Conflict("no_parent", "the current release is the first one; there is nothing to roll back to")
        release = self.release(tenant_id, target)
        if not self.was_current(release):
            raise Conflict("never_current", f"release {target} never was current, so the gate never saw it; promote it")
        self._move(release, expected=current, force=False, by=by)
        return release

    def was_current(self, release: Release) -> bool:
        """Whether the pointer is at this release, or was once."""
        return any(move["release"] == release.id for move in self.promotions(release.tenant_id))

    def _move(self, release: Release, *, expected: str, force: bool, by: str, attempt: Job | None = None) -> None:
        self._check_whole(release)
        check_servable(release)
        self._ledger.do(
            calls.move_release(
                release.tenant_id,
                release.id,
                expected=expected,
                queues=release.queues,
                force=force,
                by=by,
                attempt=attempt,
            )
        )
        # The log in the store is what `releases restore` reads when Redis was lost.
        key = f"tenants/{release.tenant_id}/promotions/{time.time_ns()}-{release.id}.json"
        self.store.put(key, json.dumps({"release": release.id, "from": expected, "by": by}).encode())

    def _check_whole(self, release: Release) -> None:
        selector = release.selector
        needed = {f"adapter of {label}": entry.adapter for label, entry in release.labels.items() if entry.adapter}
        if selector and selector.llm:
            needed["selector"] = selector.llm
        missing = [what for what, digest in needed.items() if not self.has_weights(digest)]
        if selector and selector.light and not self.store.exists(_light_key(selector.light)):
            missing.append("light selector")
        if missing:
            raise Conflict(
                "adapter_missing", f"the store does not hold: {', '.join(missing)}; upload or train it first"
            )

    # Manifests are written to the store first: Redis is the index, and can be made anew from it.

    def _keep(self, kind: str, tenant_id: str, name: str, manifest: str) -> None:
        self.store.put(f"tenants/{tenant_id}/{kind}/{name}.json", manifest.encode())
        self._redis.hset(f"sb:{kind}:{tenant_id}", name, manifest)

    def _all(self, kind: str, tenant_id: str) -> list[str]:
        return [str(raw) for raw in self._redis.hvals(f"sb:{kind}:{tenant_id}")]


def check_servable(release: Release) -> None:
    """Raise `Conflict` `adapter_missing` where a label has no adapter: such a candidate can only be measured."""
    lacking = sorted(label for label, entry in release.labels.items() if not entry.adapter)
    if lacking:
        raise Conflict(
            "adapter_missing",
            f"release {release.id} was made without adapters of {', '.join(lacking)}: "
            "train them, then the selector anew",
        )


def check_same_base(manifest: AdapterManifest, base_model: str) -> None:
    """Raise `Invalid` where an adapter was made for another base model."""
    if manifest.base_model != base_model:
        raise Invalid(
            "adapter_base_mismatch",
            f"adapter {manifest.ref} belongs to base model {manifest.base_model}, not to {base_model}; train it anew",
        )


def _light_key(digest: str) -> str:
    return f"light/{digest}.safetensors"


def _rename(part: Path, folder: Path) -> None:
    try:
        part.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process was first, with the same content
            raise
