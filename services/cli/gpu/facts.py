"""What a plan is made of, asked of a running system: a base model, and the adapters of a release or of all labels."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from services.cli.gpu.memory import BaseSize
from services.cli.gpu.plan import Need
from shared.contracts.labels import parse_label
from shared.errors import Invalid

if TYPE_CHECKING:
    from signalbox import Adapter, Release, Signalbox

_READ_BY_BASE = ("llm", "cascade")


class Facts(NamedTuple):
    """What is served: `release` is empty where there is none yet."""

    release: str
    base: BaseSize
    needs: list[Need]
    selector_reads_base: bool


def facts_of(client: "Signalbox", release_id: str) -> Facts:
    """Ask for a release by id, or for the current one; without any, for the newest adapter of each label.

    Raises `Invalid` where no base model is known yet, and the client's errors, such as that of an unknown release.
    """
    release = _release(client, release_id)
    adapters = client.adapters()
    base = client.base_model(release.base_model if release else _served(client, adapters)).to_dict()
    if release is None:
        return Facts("", BaseSize.of(base), _newest(adapters), selector_reads_base=True)
    needs = _of_release(release.labels, adapters)
    return Facts(release.id, BaseSize.of(base), needs, _reads_base(release.to_dict().get("selector")))


def _release(client: "Signalbox", release_id: str) -> "Release | None":
    from signalbox import ConflictError

    try:
        return client.release(release_id or "current")
    except ConflictError as error:
        if error.code != "no_release":
            raise
        return None


def _served(client: "Signalbox", adapters: "list[Adapter]") -> str:
    """The base model that is served, or that the adapters were made for."""
    served = {model.id for model in client.models() if model.signalbox.get("kind") == "base"}
    known = served or {adapter.base_model for adapter in adapters}
    if len(known) == 1:
        return known.pop()
    if known:
        raise Invalid(
            "base_model_ambiguous", f"there are the base models {', '.join(sorted(known))}: promote a release first"
        )
    raise Invalid(
        "base_model_unknown",
        "no worker has served a base model yet: start the system once, with one worker, and plan then",
    )


def _of_release(labels: Mapping[str, Any], adapters: "list[Adapter]") -> list[Need]:
    known = {adapter.digest: adapter for adapter in adapters}
    entries = [entry for _, entry in sorted(labels.items()) if entry["adapter"]]
    return [_need(entry["ref"], entry["group"], known.get(entry["adapter"])) for entry in entries]


def _newest(adapters: "list[Adapter]") -> list[Need]:
    newest = {adapter.label: adapter for adapter in sorted(adapters, key=lambda one: (one.label, one.version))}
    return [_need(adapter.ref, parse_label(label).domain, adapter) for label, adapter in newest.items()]


def _need(ref: str, group: str, adapter: "Adapter | None") -> Need:
    info = (adapter.to_dict().get("info") or {}) if adapter else {}
    return Need(ref, group, int(info.get("rank") or 0), str(info.get("method") or ""))


def _reads_base(selector: Mapping[str, Any] | None) -> bool:
    if not selector:
        return False
    return selector["kind"] in _READ_BY_BASE or (selector["kind"] == "prototypes" and not selector.get("encoder"))
