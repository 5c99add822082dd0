"""Base models: manifests by pin and digest."""

import threading

import structlog

from shared.contracts.manifests import BaseModelManifest, Release
from shared.errors import NotFound, SignalboxError
from shared.registry.store import ObjectStore
from shared.registry.store_errors import Corrupt

log = structlog.get_logger()
_FOLDER = "base/"


class BaseModels:
    """All base models ever served here; manifests with the same pin and other contents are versions of one model."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def publish(self, manifest: BaseModelManifest) -> None:
        """Store a new manifest, so that uploads can be checked against it."""
        stored = manifest.model_dump_json().encode()
        # Older versions read the key without a digest; all manifests of a pin have the same shapes.
        for key in (_version_key(manifest.id, manifest.digest), _pin_key(manifest.id)):
            if not self._store.exists(key) or self._is_older(key, manifest):
                self._store.put(key, stored)

    def _is_older(self, key: str, manifest: BaseModelManifest) -> bool:
        """Whether the stored manifest lacks what this one notes beside its content, or notes another template."""
        stored = BaseModelManifest.model_validate_json(self._store.get(key))
        noted = ("control_tokens", "weight_bytes", "vocabulary_size")
        lacks = any(getattr(manifest, name) and not getattr(stored, name) for name in noted)
        return lacks or manifest.usual_template != stored.usual_template

    def publish_with_retries(self, manifest: BaseModelManifest, retry_seconds: float) -> None:
        """Publish; where the store is away, retry in the background until it succeeds."""

        def is_published() -> bool:
            try:
                self.publish(manifest)
            except SignalboxError as error:
                log.warning("base_model_not_published", error=str(error))
                return False
            return True

        def publish() -> None:
            while not is_published():
                threading.Event().wait(retry_seconds)

        if not is_published():
            threading.Thread(target=publish, name="publish-base-model", daemon=True).start()

    def get(self, model_id: str, digest: str = "") -> BaseModelManifest:
        """Return the manifest of a pin, or its version of this digest; raises `NotFound`, `Unavailable`, `Corrupt`."""
        key = _version_key(model_id, digest) if digest else _pin_key(model_id)
        try:
            manifest = BaseModelManifest.model_validate_json(self._store.get(key))
        except NotFound as error:
            named = f"{model_id} {digest[:12]}".strip()
            raise NotFound(
                "base_model_not_found", f"no worker or trainer has published base model {named}: start one with it"
            ) from error
        if digest not in ("", manifest.digest):
            raise Corrupt("base_model", digest[:12])
        return manifest

    def versions(self, model_id: str) -> list[BaseModelManifest]:
        """Return all manifests of a pin, oldest first; empty for one published before manifests had versions."""
        found = [self._store.get(key) for key in self._store.keys(f"{_FOLDER}{model_id}/")]
        return sorted(map(BaseModelManifest.model_validate_json, found), key=lambda manifest: manifest.created_at)

    def ids(self) -> list[str]:
        """Return the pins of all base models."""
        names = (key.removeprefix(_FOLDER) for key in self._store.keys(_FOLDER))
        return sorted(name.removesuffix(".json") for name in names if "/" not in name)


def warn_of_other_base(release: Release, served: BaseModelManifest) -> None:
    """Log one warning where a release was made for a different base model than this process serves."""
    if release.base_model == served.id and release.base_manifest in ("", served.digest):
        return
    log.warning(
        "release_of_other_base_model",
        release=release.id,
        tenant_id=release.tenant_id,
        made_for=release.base_model,
        made_for_manifest=release.base_manifest,
        serves=served.id,
        serves_manifest=served.digest,
    )


def _pin_key(model_id: str) -> str:
    return f"{_FOLDER}{model_id}.json"


def _version_key(model_id: str, digest: str) -> str:
    return f"{_FOLDER}{model_id}/{digest}.json"
