"""Calls about rebases: a release's adapters and selector trained anew on another base model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from signalbox.call import Call, given, items, posted
from signalbox.requests import Request
from signalbox.results import Record


@dataclass(frozen=True, kw_only=True)
class RebasePlan(Record):
    """What a rebase would do."""

    release: str
    base_model: str
    """Pin of the new base model."""
    base_name: str = ""
    selector: str = ""
    """Kind of the selector, which is trained anew."""
    labels: list[dict[str, Any]] = field(default_factory=list)
    """By label, its `fate`, its data set and rows, template, seconds and bytes, and the `problem` it has."""
    seconds: float | None = None
    """Of all trainings together, on one trainer."""
    memory_bytes: int | None = None
    """Of the largest training."""
    problems: list[str] = field(default_factory=list)
    """Why it cannot begin like this, and what to do."""
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Rebase(Record):
    """A rebase as it is now."""

    id: str
    state: str = ""
    why: str = ""
    release: str = ""
    base_model: str = ""
    candidate: str = ""
    """The release that it made; empty until then, and in lists."""
    passed: bool | None = None
    """Whether the candidate passes the gate."""
    labels: list[Any] = field(default_factory=list)
    """By label, its training, and `old` against `new`; in lists the names alone."""

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.state in ("succeeded", "failed", "cancelled")


def plan_rebase(
    base_model: str,
    *,
    release: str | None = None,
    missing: str | None = None,
    datasets: Mapping[str, str] | None = None,
    templates: Mapping[str, str] | None = None,
    template: str | None = None,
) -> Call[RebasePlan]:
    """What moving a release to another base model would take; nothing is queued. The arguments are `begin_rebase`'s."""
    body = _body(base_model, release, missing, datasets, templates, template) | {"dry_run": True}
    return Call(posted("/v1/rebases", body, None), RebasePlan.from_dict)


def begin_rebase(
    base_model: str,
    *,
    release: str | None = None,
    missing: str | None = None,
    datasets: Mapping[str, str] | None = None,
    templates: Mapping[str, str] | None = None,
    template: str | None = None,
    confirm_cost: bool | None = None,
    idempotency_key: str | None = None,
) -> Call[Rebase]:
    """Train a release's adapters and selector anew on another base model; the same call again goes on where it was.

    `base_model` is its pin, or the name or folder that its trainer was started with. `missing` says what becomes of a
    label that cannot be trained: `refuse`, `leave_out`, `keep`. `datasets` and `templates` (by label) take the place of
    those of its adapters; `template` that of each one that does not fit.
    """
    body = _body(base_model, release, missing, datasets, templates, template) | given({"confirm_cost": confirm_cost})
    return Call(posted("/v1/rebases", body, idempotency_key), Rebase.from_dict)


def rebases() -> Call[list[Rebase]]:
    """All rebases whose jobs are kept, the newest first."""
    return Call(Request("GET", "/v1/rebases"), items(Rebase))


def rebase(rebase_id: str) -> Call[Rebase]:
    """One rebase: by label its training, and old against new."""
    return Call(Request("GET", f"/v1/rebases/{rebase_id}"), Rebase.from_dict)


def cancel_rebase(rebase_id: str) -> Call[Rebase]:
    """Cancel the trainings of a rebase that have not ended; adapters that are trained already stay."""
    return Call(Request("POST", f"/v1/rebases/{rebase_id}/cancel", json={}), Rebase.from_dict)


def _body(
    base_model: str,
    release: str | None,
    missing: str | None,
    datasets: Mapping[str, str] | None,
    templates: Mapping[str, str] | None,
    template: str | None,
) -> dict[str, Any]:
    return given({
        "base_model": base_model,
        "release": release,
        "missing": missing,
        "datasets": datasets and dict(datasets),
        "templates": templates and dict(templates),
        "template": template,
    })  # fmt: skip
