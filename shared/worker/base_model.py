"""Records which base model a process serves, in the process's presence and in the registry."""

from pathlib import Path

from shared.contracts.manifests import BaseModelManifest
from shared.worker.service import Service


def serve_base_model(service: Service, folder: Path) -> BaseModelManifest:
    """Return the manifest of the base model in `folder`, and name the model in the process's presence from now on."""
    from shared.model.base_manifest import base_manifest

    manifest = base_manifest(folder, service.settings.base_model)
    service.info.update(base_model=manifest.id, base_manifest=manifest.digest)
    return manifest


def publish_base_model(service: Service, folder: Path) -> BaseModelManifest:
    """Do the same, and publish the manifest in the registry, so that uploads can be checked against it."""
    manifest = serve_base_model(service, folder)
    service.registry.base_models.publish_with_retries(manifest, service.settings.pointer_poll_seconds)
    return manifest
