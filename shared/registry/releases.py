"""Releases: immutable candidates, and one pointer per tenant to the current release, moved by compare-and-set."""

import json
import time
from collections.abc import Collection
from typing import Any

from shared.contracts.adapter_needs import needs_of
from shared.contracts.jobs import Job
from shared.contracts.manifests import Release
from shared.errors import Conflict, NotFound
from shared.ledger import Ledger, calls
from shared.ledger.keys import LedgerKey
from shared.registry.adapters import Adapters
from shared.registry.records import Records
from shared.registry.store import ObjectStore
from shared.registry.weights import Weights


class Releases:
    """The releases of every tenant; a release never changes, only the pointer moves."""

    def __init__(
        self, ledger: Ledger, records: Records[Release], store: ObjectStore, weights: Weights, adapters: Adapters
    ) -> None:
        self._ledger = ledger
        self._redis = ledger.redis
        self._records = records
        self._store = store
        self._weights = weights
        self._adapters = adapters

    def add(self, release: Release) -> str:
        """Store a candidate; raises `Conflict` where it names an adapter or a selector that the store lacks.

        A label without an adapter is allowed here, but such a release cannot be promoted.
        """
        self._check_whole(release)
        self._records.add(release.tenant_id, release.id, release)
        return release.id

    def remove(self, release: Release) -> None:
        """Remove a release's record, then its manifest in the store; raises `Conflict` where it is the current one."""
        self._ledger.do(calls.remove_release(release.tenant_id, release.id))
        self._records.remove_stored(release.tenant_id, release.id)

    def get(self, tenant_id: str, release_id: str) -> Release:
        """Return one release; raises `NotFound`, `Corrupt`."""
        found = self._records.get(tenant_id, release_id)
        if found is None:
            raise NotFound("release_not_found", f"no release {release_id!r}; `signalbox releases list` shows them")
        return found

    def list_all(self, tenant_id: str) -> list[Release]:
        """List all releases, oldest first."""
        return sorted(self._records.list_all(tenant_id), key=lambda release: release.created_at)

    def tenants(self) -> set[str]:
        """Return the noted tenants with a current release; a promotion, a restore or a request notes a tenant."""
        return {str(tenant_id) for tenant_id in self._redis.smembers(LedgerKey.TENANTS)}

    def note_tenant(self, tenant_id: str) -> None:
        """Note a tenant whose release was promoted before tenants were noted."""
        self._redis.sadd(LedgerKey.TENANTS, tenant_id)

    def current_id(self, tenant_id: str) -> str:
        """Return the id of the current release; empty where there is none."""
        return self.current_ids([tenant_id])[tenant_id]

    def current_ids(self, tenant_ids: Collection[str]) -> dict[str, str]:
        """Return the id of each tenant's current release, in one round trip; empty where there is none."""
        with self._redis.pipeline(transaction=False) as pipe:
            for tenant_id in tenant_ids:
                pipe.get(LedgerKey.RELEASE.of(tenant_id))
            return dict(zip(tenant_ids, (str(found or "") for found in pipe.execute()), strict=True))

    def on_trial(self, tenant_ids: Collection[str]) -> dict[str, str]:
        """Return the id of the candidate of each tenant that has an open rollout, in one round trip."""
        with self._redis.pipeline(transaction=False) as pipe:
            for tenant_id in tenant_ids:
                pipe.hget(LedgerKey.ROLLOUT.of(tenant_id), "release")
            return {tenant: str(found) for tenant, found in zip(tenant_ids, pipe.execute(), strict=True) if found}

    def promotions(self, tenant_id: str) -> list[dict[str, Any]]:
        """Return every move of the pointer, oldest first."""
        return [json.loads(raw) for raw in self._redis.lrange(LedgerKey.PROMOTIONS.of(tenant_id), 0, -1)]

    def promote(
        self, tenant_id: str, release_id: str, *, force: bool = False, by: str = "", attempt: Job | None = None
    ) -> Release:
        """Make a candidate current, atomically; raises `Conflict` where gate, parent, adapters or workers forbid it.

        `attempt` is the job that promotes: raises `StaleAttempt` where another attempt owns it now.
        """
        release = self.get(tenant_id, release_id)
        if not (release.verdict.passed or force):
            raise Conflict("gate_failed", " ".join(release.verdict.reasons) + " Promote with force to overrule it.")
        self._move(release, expected=release.parent, force=force, by=by, attempt=attempt)
        return release

    def rollback(self, tenant_id: str, *, to: str = "", force: bool = False, by: str = "") -> Release:
        """Return to the current release's parent, or to a release that was current before, in one atomic step.

        With `force`, its groups need no live worker that serves its base model. Raises `NotFound`, `Conflict`.
        """
        current = self.current_id(tenant_id)
        target = to or (self.get(tenant_id, current).parent if current else "")
        if not target:
            raise Conflict(
                "no_parent",
                "the current release is the first one; name one that was current with `to`, or promote another",
            )
        release = self.get(tenant_id, target)
        if not self.was_current(release):
            raise Conflict("never_current", f"release {target} never was current, so the gate never saw it; promote it")
        self._move(release, expected=current, force=force, is_back=True, by=by)
        return release

    def was_current(self, release: Release) -> bool:
        """Whether this release is or was the current one."""
        return any(move["release"] == release.id for move in self.promotions(release.tenant_id))

    def _move(
        self,
        release: Release,
        *,
        expected: str,
        force: bool,
        by: str,
        is_back: bool = False,
        attempt: Job | None = None,
    ) -> None:
        self._check_whole(release)
        check_servable(release)
        key = attempt.key if attempt else by
        self._ledger.do(
            calls.move_release(
                release.tenant_id,
                release.id,
                expected=expected,
                queues=release.queues,
                bases=release.bases_of_queues,
                needs=needs_of(release.labels.values(), self._infos(release.tenant_id)),
                force=force,
                is_back=is_back,
                by=by,
                key=key,
                attempt=attempt,
            )
        )
        # `releases restore` reads this log if Redis is lost.
        name = f"tenants/{release.tenant_id}/promotions/{time.time_ns()}-{release.id}.json"
        self._store.put(name, json.dumps({"release": release.id, "from": expected, "by": by, "key": key}).encode())

    def _infos(self, tenant_id: str) -> dict[str, dict[str, Any]]:
        """What is noted of each adapter, by digest."""
        return {adapter.digest: adapter.info for adapter in self._adapters.list_all(tenant_id)}

    def _check_whole(self, release: Release) -> None:
        selector = release.selector
        needed = {f"adapter of {label}": entry.adapter for label, entry in release.labels.items() if entry.adapter}
        if selector and selector.llm:
            needed["selector"] = selector.llm
        missing = [what for what, digest in needed.items() if not self._weights.has(digest)]
        if selector and selector.light and not self._weights.has_light(selector.light):
            missing.append("light selector")
        if selector and selector.prototypes and not self._weights.has_prototypes(selector.prototypes):
            missing.append("prototypes")
        if missing:
            raise Conflict(
                "adapter_missing", f"the store does not hold: {', '.join(missing)}; upload or train it first"
            )


def check_servable(release: Release) -> None:
    """Raise `Conflict` `adapter_missing` where a label has no adapter: such a candidate can be measured only."""
    lacking = sorted(label for label, entry in release.labels.items() if not entry.adapter)
    if lacking:
        raise Conflict(
            "adapter_missing",
            f"release {release.id} was made without adapters of {', '.join(lacking)}: "
            "train them, then the selector anew",
        )
