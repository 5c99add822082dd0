"""The base model that a process serves, said in its presence."""

from pathlib import Path

from shared.contracts.manifests import BaseModelManifest
from shared.worker.service import Service


def serve_base_model(service: Service, folder: Path) -> BaseModelManifest:
    """The manifest of the base model in `folder`, named from here on in what the process tells of itself."""
    from shared.model.base_manifest import base_manifest

    manifest = base_manifest(folder, service.settings.base_model)
    service.info.update(base_model=manifest.id, base_manifest=manifest.digest)
    return manifest


def publish_base_model(service: Service, folder: Path) -> BaseModelManifest:
    """The same, published in the registry too, so that uploads can be checked against it."""
    manifest = serve_base_model(service, folder)
    service.registry.base_models.publish_with_retries(manifest, service.settings.pointer_poll_seconds)
    return manifest
