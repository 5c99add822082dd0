"""Adapters: the versions of each label; a version names its weights by digest."""

import re
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from shared.contracts.compose import AdapterPart
from shared.contracts.constraints import Constraint
from shared.contracts.labels import full_form, short_form
from shared.contracts.manifests import AdapterManifest
from shared.errors import Invalid, NotFound
from shared.ledger.keys import LedgerKey
from shared.registry.records import Records
from shared.registry.weights import Weights

_DIGEST = re.compile("[0-9a-f]{64}")  # a label has at most 32 letters and digits in a row


@dataclass(frozen=True)
class AdapterPage:
    """Some of the versions that were asked for, and how many there are."""

    items: list[AdapterManifest]
    found_count: int


class Adapters:
    """The adapters of every tenant; a version never changes. Records have the full form of labels."""

    def __init__(self, redis: Redis, records: Records[AdapterManifest], weights: Weights) -> None:
        self._redis = redis
        self._records = records
        self._weights = weights

    def add(self, folder: Path, manifest: AdapterManifest) -> AdapterManifest:
        """Store weights as the label's next version; returns the existing version where the label has these weights."""
        digest = self._weights.put(folder)
        for known in self._records.matching(manifest.tenant_id, "digest", digest):
            if _use(known) == _use(manifest):
                return known
        version = int(self._redis.hincrby(LedgerKey.VERSIONS.of(manifest.tenant_id), full_form(manifest.label), 1))
        manifest = manifest.model_copy(update={"digest": digest, "version": version})
        self._records.add(manifest.tenant_id, full_form(manifest.ref), manifest)
        return manifest

    def remove(self, manifest: AdapterManifest) -> None:
        """Remove a version's record; its number is not given again, and its weights stay until nothing names them."""
        self._records.remove(manifest.tenant_id, full_form(manifest.ref), manifest)

    def list_all(self, tenant_id: str, label: str = "") -> list[AdapterManifest]:
        """List the versions of one label or of all labels, ordered by label and version."""
        records = self._records
        found = records.matching(tenant_id, "label", full_form(label)) if label else records.list_all(tenant_id)
        return sorted(found, key=lambda manifest: (manifest.label, manifest.version))

    def page(self, tenant_id: str, text: str, first: int, limit: int) -> AdapterPage:
        """List some of the versions whose reference holds a text, ordered by label and version."""
        names = self._records.names(tenant_id, "label")
        found = [name for name in names if text in short_form(name)] if text else names
        return AdapterPage(self._records.of(tenant_id, found[first : first + limit]), len(found))

    def get(self, tenant_id: str, ref: str) -> AdapterManifest:
        """Return one adapter by `label@n`, by label (the newest version) or by digest; raises `NotFound`."""
        if _DIGEST.fullmatch(ref):
            found = self._records.newest(tenant_id, "digest", ref)
        elif "@" in ref:
            found = self._records.get(tenant_id, full_form(ref))
        else:
            found = self._records.newest(tenant_id, "label", full_form(ref))
        if found is None:
            raise NotFound("adapter_not_found", f"no adapter {ref!r}; `signalbox adapters list` shows what there is")
        return found

    def part(self, tenant_id: str, ref: str) -> tuple[AdapterPart, AdapterManifest]:
        """Return an adapter as a part of others, also what a training made over another adapter, by digest.

        That has no version of its own: the manifest is then that of the version which it is a part of, with its digest.
        Raises `NotFound`.
        """
        try:
            found = self.get(tenant_id, ref)
        except NotFound:
            for owner in self.list_all(tenant_id) if _DIGEST.fullmatch(ref) else ():
                if own := next((part for part in owner.parts if part.digest == ref), None):
                    return own.model_copy(update={"weight": 1.0}), owner.model_copy(update={"digest": ref})
            raise
        within = [digest for part in found.parts for digest in (part.digest, *part.within)]
        return AdapterPart(ref=found.ref, digest=found.digest, within=tuple(within)), found


def _use(manifest: AdapterManifest) -> tuple[str, str, str, Constraint | None, dict[str, str]]:
    """Return the properties in which two versions with the same weights differ."""
    return manifest.label, manifest.template, manifest.instruction, manifest.constraint, manifest.labels


def check_same_base(manifest: AdapterManifest, base_model: str) -> None:
    """Raise `Invalid` where an adapter was made for another base model."""
    if manifest.base_model != base_model:
        raise Invalid(
            "adapter_base_mismatch",
            f"adapter {manifest.ref} belongs to base model {manifest.base_model}, not to {base_model}; train it anew",
        )
