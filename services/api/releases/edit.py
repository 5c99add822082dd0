"""Candidates made by hand: labels added, removed or changed, without training; the selector stays as it is."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from services.api.infra.clients import Clients
from services.api.releases.schemas import ReleaseEdit
from services.api.releases.threshold import JudgedAnew, judged_anew
from shared.contracts.entries import entry_of
from shared.contracts.labels import check_adapter_label, check_name
from shared.contracts.manifests import (
    AdapterManifest,
    BaseModelManifest,
    Release,
    ReleaseLabel,
    ReleaseSelector,
    Verdict,
)
from shared.contracts.reading import ReadingMode, RequestReading
from shared.errors import Conflict, Invalid
from shared.registry.adapters import check_same_base
from shared.security.api_keys import Key

_MADE_ANEW = {"tenant_id", "parent", "base_model", "base_manifest", "labels", "verdict", "created_at", "made_by"}
_OF_SELECTOR = {"selector", "reading", "ambiguous", "representation", "validation", "datasets", "report"}


def edited_release(clients: Clients, caller: Key, edit: ReleaseEdit, made_by: str = "") -> Release:
    """Store the candidate that an edit makes of a release, or of nothing where there is none yet; blocking.

    `made_by` is named as its maker in place of the key.

    Raises `NotFound` `release_not_found`, `adapter_not_found`; `Invalid` `label_unknown`, `adapter_base_mismatch`,
    `edit_empty`, `selector_missing`; `Conflict` `label_selected`, `release_empty`.
    """
    _check_values(edit)
    current, before = _start(clients, caller.tenant_id, edit)
    adapters = {label: clients.registry.adapters.get(caller.tenant_id, ref) for label, ref in edit.add.items()}
    labels = _labels(before, edit, adapters)
    base_model = before.base_model if before else next(iter(adapters.values())).base_model
    for manifest in adapters.values():
        check_same_base(manifest, base_model)
    base = _newest(clients, base_model)
    _check_templates(clients, caller.tenant_id, edit, base)
    kept = _kept(before, edit)
    anew = _judged_anew(clients, current, before, edit)
    kept |= anew.fields
    changes = [
        *_changes(before, edit, labels),
        *_change_of_reading(before, kept),
        *_change_of_threshold(before, kept.get("selector")),
    ]
    if not changes:
        raise Invalid("edit_empty", "the edit changes nothing: name labels to add, remove or change")
    release = Release(
        **kept,
        tenant_id=caller.tenant_id,
        parent=current.id if current else "",
        base_model=base_model,
        base_manifest=before.base_manifest if before else base.digest if base else "",
        labels=labels,
        verdict=_verdict(current, before, edit, labels, changes, anew.faults),
        made_by=made_by or caller.id,
    )
    clients.registry.releases.add(release)
    return release


def _start(clients: Clients, tenant_id: str, edit: ReleaseEdit) -> tuple[Release | None, Release | None]:
    """The current release, which the candidate would replace, and the one that it is made of."""
    releases = clients.registry.releases
    current_id = releases.current_id(tenant_id)
    current = releases.get(tenant_id, current_id) if current_id else None
    before = releases.get(tenant_id, edit.start_from) if edit.start_from else current
    if before is None and not edit.add:
        raise Conflict("release_empty", "there is no release to edit yet: name adapters to add")
    return current, before


def _labels(
    before: Release | None, edit: ReleaseEdit, adapters: Mapping[str, AdapterManifest]
) -> dict[str, ReleaseLabel]:
    labels = dict(before.labels) if before else {}
    _check_removed(before, edit)
    for label in edit.remove:
        del labels[label]
    for label, manifest in adapters.items():
        check_adapter_label(label)
        labels[label] = entry_of(label, manifest, labels.get(label))
    for field, values in edit.changes.items():
        for label, value in values.items():
            if label not in labels:
                raise _unknown(label, labels)
            labels[label] = labels[label].model_copy(update={field: value})
    if not labels:
        raise Conflict("release_empty", "no label would be left: a release needs one")
    return dict(sorted(labels.items()))


def _check_removed(before: Release | None, edit: ReleaseEdit) -> None:
    labels = before.labels if before else {}
    for label in edit.remove:
        if label not in labels:
            raise _unknown(label, labels)
        if label in edit.add:
            raise Invalid("edit_unclear", f"the edit adds and removes {label}: name it once")
    selected = sorted(set(edit.remove) & before.selected_labels) if before and edit.selector == "keep" else []
    if selected:
        raise Conflict(
            "label_selected",
            f"the selector of release {before.id if before else ''} chooses {', '.join(selected)}: "
            "`signalbox train selector --delete` trains a label out, and an edit with `selector: none` leaves it away",
        )


def _kept(before: Release | None, edit: ReleaseEdit) -> dict[str, Any]:
    """What a candidate takes over from the release that it starts from: all, without the selector where it goes."""
    if before is None:
        return {}
    gone = _MADE_ANEW | (_OF_SELECTOR if edit.selector == "none" else set())
    kept = {name: getattr(before, name) for name in Release.model_fields if name not in gone}
    return kept | ({"reading": _reading(before.selector, before, edit)} if kept.get("selector") else {})


def _judged_anew(clients: Clients, current: Release | None, before: Release | None, edit: ReleaseEdit) -> JudgedAnew:
    """What changes with the threshold that the edit names; raises `Invalid` where no selector stays."""
    if edit.threshold is None:
        return JudgedAnew({}, ())
    if before is None or before.selector is None or edit.selector == "none":
        raise Invalid("selector_missing", "a release without a selector has no threshold")
    is_current = current is not None and before.id == current.id
    return judged_anew(clients, before, before.selector, edit.threshold, is_current=is_current)


def _reading(selector: ReleaseSelector | None, before: Release, edit: ReleaseEdit) -> RequestReading | None:
    """What the candidate's selector reads; raises `Invalid` where it was not trained to."""
    if selector is None or (edit.reading is None and edit.harness_tags is None):
        return before.reading
    usual: ReadingMode = "instruction+input" if selector.text == "instruction+input" else "last_turn"
    reading = before.reading or RequestReading(mode=usual)
    tags = reading.harness_tags if edit.harness_tags is None else tuple(edit.harness_tags)
    changed = reading.model_copy(update={"mode": edit.reading or reading.mode, "harness_tags": tags})
    if not changed.fits(selector.text):
        raise Invalid(
            "reading_misfit", f"the selector was trained to read {selector.text}: it cannot read {changed.mode}"
        )
    return changed


def _verdict(
    current: Release | None,
    before: Release | None,
    edit: ReleaseEdit,
    labels: Mapping[str, ReleaseLabel],
    changes: Sequence[str],
    at_threshold: Sequence[str],
) -> Verdict:
    """The gate: no label of the current release goes unnamed, and a selector that comes was judged against it.

    `at_threshold` is what the gate says against the selector at another threshold.
    """
    gone = sorted(set(current.labels if current else ()) - set(labels) - set(edit.remove))
    faults = [f"The label {label} of the current release is gone: add it, or name it in remove." for label in gone]
    if current and before and before.id != current.id and edit.selector == "keep" and before.selector:
        if before.parent != current.id:
            faults.append(f"The selector of {before.id} was not judged against the current release: train it anew.")
        elif not before.verdict.passed:
            faults += before.verdict.reasons
    faults += at_threshold
    return Verdict(passed=not faults, reasons=(*faults, f"Edited by hand: {'; '.join(changes)}."))


def _changes(before: Release | None, edit: ReleaseEdit, labels: Mapping[str, ReleaseLabel]) -> Iterator[str]:
    old = before.labels if before else {}
    if added := sorted(set(labels) - set(old)):
        yield f"adds {', '.join(added)}"
    if removed := sorted(set(old) - set(labels)):
        yield f"removes {', '.join(removed)}"
    if changed := sorted(label for label in set(old) & set(labels) if old[label] != labels[label]):
        yield f"changes {', '.join(changed)}"
    if before and before.selector and edit.selector == "none":
        yield "has no selector"


def _change_of_reading(before: Release | None, kept: Mapping[str, Any]) -> Iterator[str]:
    if before and kept.get("reading") != before.reading and (reading := kept.get("reading")):
        tags = f", without {', '.join(reading.harness_tags)}" if reading.harness_tags else ""
        yield f"reads {reading.mode}{tags}"


def _change_of_threshold(before: Release | None, selector: ReleaseSelector | None) -> Iterator[str]:
    if before and before.selector and selector and selector.threshold != before.selector.threshold:
        yield f"threshold {selector.threshold:g} instead of {before.selector.threshold:g}"


def _newest(clients: Clients, base_model: str) -> BaseModelManifest | None:
    """The newest manifest of a base model; None where nobody has published one."""
    versions = clients.registry.base_models.versions(base_model)
    return versions[-1] if versions else None


def _check_values(edit: ReleaseEdit) -> None:
    for group in edit.groups.values():
        check_name(group, "group")


def _check_templates(clients: Clients, tenant_id: str, edit: ReleaseEdit, base: BaseModelManifest | None) -> None:
    for name in edit.templates.values():
        if base:
            clients.registry.templates.for_base(tenant_id, name, base)
        else:
            clients.registry.templates.named(tenant_id, name)


def _unknown(label: str, labels: Mapping[str, ReleaseLabel]) -> Invalid:
    known = ", ".join(sorted(labels)) or "none"
    return Invalid("label_unknown", f"the release has no label {label!r}; it has {known}")
