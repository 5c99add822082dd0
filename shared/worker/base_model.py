"""Records which base model a process serves, and leaves the jobs of other base models to others."""

from collections.abc import Collection
from pathlib import Path

import structlog

from shared.contracts.base_models import not_served
from shared.contracts.manifests import BaseModelManifest, Release
from shared.names import base_of_queue, queue_on_base
from shared.worker.attempt import Attempt
from shared.worker.service import Service

log = structlog.get_logger()


def note_base_model(service: Service, folder: Path) -> BaseModelManifest:
    """Return the manifest of the base model in `folder`, and name the model in the process's presence from now on."""
    from shared.model.base_manifest import base_manifest

    settings = service.settings
    manifest = base_manifest(folder, settings.base_model, renders_jinja=settings.chat_templates)
    service.info.update(base_model=manifest.id, base_manifest=manifest.digest)
    return manifest


def publish_base_model(service: Service, folder: Path) -> BaseModelManifest:
    """Do the same, and publish the manifest in the registry, so that uploads can be checked against it."""
    manifest = note_base_model(service, folder)
    service.registry.base_models.publish_with_retries(manifest, service.settings.pointer_poll_seconds)
    return manifest


def leave_to_its_base(attempt: Attempt, needed: str, served: str) -> None:
    """Hand a job over to the processes that serve the base model it needs, unless this one does; raises `Suspended`.

    The job waits until there is such a process: no other base model may answer it, or be trained by it.
    """
    if needed == served:
        return
    log.info("job_left_to_its_base_model", made_for=needed, serves=served)
    plain, _ = base_of_queue(attempt.job.queue)
    attempt.hand_over(queue_on_base(plain, needed))


def note_releases(service: Service, served: BaseModelManifest, releases: Collection[Release]) -> None:
    """Let the process be ready only where one of these current releases was made for its base model, or none is there.

    `releases` are those that this process is for.
    """
    needed = sorted({base for release in releases for base in release.bases})
    service.misfit = not_served(served.id, needed) if needed and served.id not in needed else ""
