"""Calls about what is stored: releases, models, adapters, data sets."""

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from signalbox.call import Call, given, items, posted
from signalbox.requests import Request
from signalbox.results import Adapter, Alias, BaseModel, Dataset, Job, Model, Release


def releases() -> Call[list[Release]]:
    """All releases, oldest first."""
    return Call(Request("GET", "/v1/releases"), items(Release))


def release(release_id: str = "current") -> Call[Release]:
    """One release with its report."""
    return Call(Request("GET", f"/v1/releases/{release_id}"), Release.from_dict)


def edit_release(
    *,
    add: Mapping[str, str] | None = None,
    remove: Sequence[str] | None = None,
    templates: Mapping[str, str] | None = None,
    groups: Mapping[str, str] | None = None,
    instructions: Mapping[str, str] | None = None,
    keep_selector: bool = True,
    threshold: float | None = None,
    reading: str | None = None,
    harness_tags: Sequence[str] | None = None,
    start_from: str = "",
    idempotency_key: str | None = None,
) -> Call[Release]:
    """Make a candidate by hand of the current release, or of `start_from`; nothing is trained.

    `add` maps labels to adapters (`label@n`, a label, a digest). Without a selector every request names its label;
    texts of which it is less sure than `threshold` are rejected.
    `reading` is what the selector reads of a conversation: `last_turn`, `dialogue` or `instruction+input`.
    """
    body = given({
        "add": add,
        "remove": remove,
        "templates": templates,
        "groups": groups,
        "instructions": instructions,
        "selector": None if keep_selector else "none",
        "threshold": threshold,
        "reading": reading,
        "harness_tags": harness_tags,
        "start_from": start_from or None,
    })  # fmt: skip
    return Call(posted("/v1/releases/edit", body, idempotency_key), Release.from_dict)


def promote(release_id: str, *, force: bool = False, idempotency_key: str | None = None) -> Call[Release]:
    """Make a candidate the current release; `force` overrules the gate."""
    return Call(posted(f"/v1/releases/{release_id}/promote", {"force": force}, idempotency_key), Release.from_dict)


def rollback(to: str = "", *, force: bool = False, idempotency_key: str | None = None) -> Call[Release]:
    """Go back to the current release's parent, or to any older release; `force` needs no live workers."""
    return Call(posted("/v1/releases/rollback", {"to": to, "force": force}, idempotency_key), Release.from_dict)


def rebuild(release_id: str, *, idempotency_key: str | None = None) -> Call[Job]:
    """Train a candidate anew whose parent was replaced meanwhile; the job makes another on the current release."""
    return Call(posted(f"/v1/releases/{release_id}/rebuild", {}, idempotency_key), Job.from_dict)


def delete_release(release_id: str) -> Call[None]:
    """Delete a release that is not current and that no unfinished job needs."""
    return Call(Request("DELETE", f"/v1/releases/{release_id}"), lambda _: None)


def models() -> Call[list[Model]]:
    """What a request may name: base model, `auto`, labels, adapters' versions, aliases."""
    return Call(Request("GET", "/v1/models"), lambda raw: [Model.from_dict(item) for item in raw["data"]])


def model(name: str) -> Call[Model]:
    """One model, by its name, its digest or an alias."""
    return Call(Request("GET", f"/v1/models/{quote(name, safe='')}"), Model.from_dict)


def base_model(pin: str) -> Call[BaseModel]:
    """A base model by its pin, as releases and adapters name it."""
    return Call(Request("GET", f"/v1/base-models/{quote(pin, safe='')}"), BaseModel.from_dict)


def aliases() -> Call[list[Alias]]:
    """Other names for models."""
    return Call(Request("GET", "/v1/aliases"), items(Alias))


def set_alias(alias: str, model: str) -> Call[Alias]:
    """Map a name to a model, so that code which asks for somebody else's runs unchanged."""
    return Call(Request("PUT", "/v1/aliases", json={"alias": alias, "model": model}), Alias.from_dict)


def delete_alias(alias: str) -> Call[None]:
    """Remove an alias."""
    return Call(Request("DELETE", f"/v1/aliases/{quote(alias, safe='')}"), lambda _: None)


def adapters(label: str = "") -> Call[list[Adapter]]:
    """All adapters, or those of one label, by label and version."""
    return Call(Request("GET", "/v1/adapters", params={"label": label or None}), items(Adapter))


def adapter(ref: str) -> Call[Adapter]:
    """One adapter: `label@n`, a label (its newest version) or a digest."""
    return Call(Request("GET", f"/v1/adapters/{ref}"), Adapter.from_dict)


def retire_adapter(ref: str, at: str | None, *, idempotency_key: str | None = None) -> Call[Adapter]:
    """Refuse requests that name an adapter from a date on (ISO 8601 with an offset); None takes it back."""
    return Call(posted(f"/v1/adapters/{ref}/retire", {"at": at}, idempotency_key), Adapter.from_dict)


def delete_adapter(ref: str) -> Call[None]:
    """Delete one version, `label@n`, that no release and no unfinished training names."""
    return Call(Request("DELETE", f"/v1/adapters/{ref}"), lambda _: None)


def datasets() -> Call[list[Dataset]]:
    """All data sets, oldest first."""
    return Call(Request("GET", "/v1/datasets"), items(Dataset))


def delete_dataset(ref: str) -> Call[None]:
    """Delete a data set, by id or name, that no unfinished training needs; `feedback`: with all that was given."""
    return Call(Request("DELETE", f"/v1/datasets/{ref}"), lambda _: None)
