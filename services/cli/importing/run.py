"""Uploads adapters one after the other; what is stored already is not sent again, so a second run goes on."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from services.cli.errors import known_errors
from services.cli.importing.check import Looked
from services.cli.importing.entries import Entry

if TYPE_CHECKING:
    from signalbox import Signalbox
    from signalbox.results import Adapter


class Outcome(NamedTuple):
    """What became of one entry: `added`, `unchanged` or `failed`."""

    entry: Entry
    state: str
    adapter: str = ""
    """`label@n`."""
    notes: Sequence[str] = ()
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The form that people and machines are shown."""
        shown = {"label": self.entry.label or None, "state": self.state, "adapter": self.adapter or None}
        return shown | {"folder": str(self.entry.folder), "notes": list(self.notes), "reason": self.reason or None}


class Import:
    """One import into a running system."""

    def __init__(
        self, api: "Signalbox", look_at: Callable[[Entry, bytes], Looked], *, confirm_base: bool = False
    ) -> None:
        self._api = api
        self._look_at = look_at
        self._confirm_base = confirm_base
        self._known = api.adapters()

    def one(self, entry: Entry) -> Outcome:
        """Upload an adapter that is not stored yet."""
        from signalbox import AuthenticationError, PermissionDeniedError, Unreachable
        from signalbox.uploads import pack_adapter

        try:
            archive = pack_adapter(entry.folder)
            if stored := stored_as(self._known, entry, archive):
                return Outcome(entry, "unchanged", stored.ref, stored.notes)
            if problem := self._look_at(entry, archive).problem:
                return Outcome(entry, "failed", reason=problem)
            sent = self._api.upload_adapter(
                entry.folder, entry.label, **given(entry), confirm_base=self._confirm_base, archive=archive
            )
        except (Unreachable, AuthenticationError, PermissionDeniedError):
            raise  # the next one would fail alike, and a later run goes on
        except (*known_errors(), OSError) as error:
            return Outcome(entry, "failed", reason=str(error))
        # Versions from before archives were noted are told by the answer alone.
        is_known = sent.ref in {adapter.ref for adapter in self._known}
        return Outcome(entry, "unchanged" if is_known else "added", sent.ref, sent.notes)

    def release(self, outcomes: Iterable[Outcome]) -> str:
        """Make all that is stored of an import askable, in one edit; returns the id of the current release.

        Raises as `edit_release` and `promote` do.
        """
        from signalbox import ConflictError

        stored = {outcome.entry.label: outcome for outcome in outcomes if outcome.adapter}
        try:
            current = self._api.release()
        except ConflictError as error:
            if error.code != "no_release":
                raise
            current = None
        served = current.labels if current else {}
        add = {label: one.adapter for label, one in stored.items() if _is_new(one, served.get(label))}
        groups = {label: stored[label].entry.group for label in add if stored[label].entry.group}
        if not add:
            return current.id if current else ""
        return self._api.promote(self._api.edit_release(add=add, groups=groups).id).id


def stored_as(known: Sequence["Adapter"], entry: Entry, archive: bytes) -> "Adapter | None":
    """Return the newest version that an upload of the entry, packed as `archive`, would only repeat."""
    digest = hashlib.sha256(archive).hexdigest()
    same = [adapter for adapter in known if (adapter.label, adapter.archive) == (entry.label, digest)]
    asked = {name: value for name, value in given(entry).items() if value}
    fitting = [adapter for adapter in same if all(getattr(adapter, name) == value for name, value in asked.items())]
    return max(fitting, key=lambda adapter: adapter.version, default=None)


def given(entry: Entry) -> dict[str, str]:
    """What an entry says of its upload."""
    fields = {name: getattr(entry, name) for name in ("template", "instruction", "base_model")}
    return {name: value for name, value in fields.items() if value}


def _is_new(outcome: Outcome, served: Mapping[str, Any] | None) -> bool:
    """Whether the current release lacks the adapter, or has its label in another group than the one named."""
    if served is None or served["ref"] != outcome.adapter:
        return True
    return outcome.entry.group not in ("", served["group"])
