"""The training of a rebase's selector: the last of its jobs, which makes the candidate."""

from typing import Any, Literal

from services.api.infra.clients import Clients
from services.api.rebases.adapters import fitting
from services.api.rebases.plan import Move, Plan
from services.api.rebases.schemas import RebaseRequest
from services.api.training.service import SelectorTrainRequest
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import Release
from shared.contracts.rebase import Rebase
from shared.contracts.training_settings import LoraSettings
from shared.errors import NotFound


def fate_of_failed(request: RebaseRequest) -> Literal["leave_out", "keep"]:
    """Return what becomes of a label whose training fails."""
    return "keep" if request.missing == "keep" else "leave_out"


def selector_training(clients: Clients, move: Move, plan: Plan, jobs: dict[str, str]) -> SelectorTrainRequest:
    """Return the training of the candidate's selector, in the form of the release's; blocking.

    Rows whose data set is gone are stored as one again, from what the release keeps of them.
    """
    release, base = move.release, move.base
    assert release.selector is not None
    gone = plan.labels("leave_out")
    labels = [label for label in sorted(release.selected_labels) if label not in gone]
    rows = {label: _dataset(clients, move, label, source) for label, source in plan.shown.selector_rows.items()}
    return SelectorTrainRequest(
        base_model=base.id,
        parent=release.id,
        selector=release.selector.kind,
        labels={label: rows.get(label) for label in labels},
        background=rows.get(BACKGROUND),
        descriptions={label: found for label in labels if (found := release.labels[label].description)},
        drop=tuple(gone),
        reject_policy=release.reject_policy,
        ambiguous=release.ambiguous,
        settings=_settings(move),
        confirm_cost=move.request.confirm_cost,
        rebase=Rebase(jobs=jobs, kept=tuple(plan.labels("stay", "keep")), failed=fate_of_failed(move.request)),
        **_reading(release),
        **_training(release),
    )


def _settings(move: Move) -> LoraSettings:
    """Those of the release's language model, as far as they fit the new base model."""
    if (before := move.release.trained_as) is None:
        return move.base.settled(LoraSettings())
    fit = fitting(before.settings.model_dump(mode="json"), move.base)
    return move.base.settled(LoraSettings.model_validate({**fit, "template": move.base.usual_template}))


def _reading(release: Release) -> dict[str, Any]:
    assert release.selector is not None
    found: dict[str, Any] = {"text": release.selector.text}
    if release.reading:
        found |= {"reading": release.reading.mode, "harness_tags": release.reading.harness_tags}
    return found


def _training(release: Release) -> dict[str, Any]:
    """The readout of its language model, and how its rows were chosen, as far as the release keeps that."""
    found: dict[str, Any] = {}
    if (before := release.trained_as) is not None:
        found["readout"] = "head" if before.has_head else "names"
    if chosen := release.report.get("selection"):
        found["selection"] = chosen
    return found


def _dataset(clients: Clients, move: Move, label: str, source: str) -> str:
    """Return the id of the data set with a label's rows for the selector."""
    if source == "data set":
        return clients.registry.datasets.get(move.tenant_id, move.release.datasets[label]).id
    keys = [kept[label] for kept in (move.release.representation, move.release.validation) if label in kept]
    rows = [row for key in keys for row in clients.registry.datasets.get_rows(key)]
    # Background rows may carry the label of a deleted task.
    found = [row.model_copy(update={"label": "" if label == BACKGROUND else label}) for row in rows]
    if not found:
        raise NotFound(
            "dataset_not_found", f"release {move.release.id} keeps no rows of {label}: upload a data set of it"
        )
    name = f"kept.{move.release.id}.{label}"[:64]
    return clients.registry.datasets.add(move.tenant_id, name, found).id
