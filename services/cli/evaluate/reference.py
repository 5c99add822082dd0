"""The reference path (paper, section 3.5) over a release of the running system."""

from typing import TYPE_CHECKING

from services.cli.local.run_state import current_registry, find_release
from shared.errors import Invalid
from shared.registry.releases import check_servable
from shared.settings import Settings

if TYPE_CHECKING:
    from services.trainer.evaluation.reference import Reference


def open_reference(settings: Settings, release_id: str = "") -> "Reference":
    """The reference of a release (default: the current one), on the base model that it was made for.

    Raises `NotFound`, `Conflict` if there is no release or it was made without adapters, and `Invalid` if the base
    model is another one.
    """
    from services.trainer.evaluation.reference import Reference
    from shared.model.base import base_model_id, resolve_base_model
    from shared.model.hardware import limit_threads

    registry = current_registry(settings)
    release = find_release(registry, release_id)
    check_servable(release)
    limit_threads(settings)
    folder = resolve_base_model(settings)
    if base_model_id(folder) != release.base_model:
        raise Invalid(
            "base_model_mismatch",
            f"release {release.id} was made for base model {release.base_model}, and {settings.base_model!r} is "
            f"{base_model_id(folder)}: set SIGNALBOX_BASE_MODEL to the one it was made for, or name another release",
        )
    return Reference(
        release,
        registry.weights,
        folder,
        max_prompt_tokens=settings.max_prompt_tokens,
        encoder_folder=settings.encoder,
        find_template=lambda name: registry.templates.named(release.tenant_id, name),
    )
