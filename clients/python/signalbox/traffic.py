"""Calls about what selectors read and decided: the traffic log, its policy, counts by hour."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from signalbox.call import Call, items
from signalbox.requests import Request
from signalbox.results import Record

_PATH = "/v1/traffic"


@dataclass(frozen=True, kw_only=True)
class TrafficRow(Record):
    """One selection that the traffic log keeps; `text` is what the selector read, redacted."""

    job: str
    at: str
    text: str = ""
    label: str = ""
    best_label: str = ""
    probability: float | None = None
    confidence: float | None = None
    rejected: bool = False
    disputed: bool = False
    by: str = ""
    release: str = ""


@dataclass(frozen=True, kw_only=True)
class TrafficPage(Record):
    """Rows of the traffic log, oldest first; `next` is the `after` of the next page, None at the end."""

    _KINDS: ClassVar[Mapping[str, type[Record]]] = {"items": TrafficRow}
    items: list[TrafficRow]
    next: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrafficHour(Record):
    """Counts of one hour's selections under one release."""

    hour: str
    release: str
    selections: int = 0
    rejected: int = 0
    disputed: int = 0


def traffic(*, after: str | None = None, since: str | None = None, limit: int = 100) -> Call[TrafficPage]:
    """Rows of the traffic log, oldest first."""
    return Call(Request("GET", _PATH, params={"after": after, "since": since, "limit": limit}), TrafficPage.from_dict)


def traffic_policy() -> Call[dict[str, Any]]:
    """What the traffic log keeps; by default nothing."""
    return Call(Request("GET", f"{_PATH}/policy"), dict)


def set_traffic_policy(policy: Mapping[str, Any]) -> Call[dict[str, Any]]:
    """Replace what the traffic log keeps, as in `{"on": True, "share": 0.1}`; what is left out gets its default."""
    return Call(Request("PUT", f"{_PATH}/policy", json=dict(policy)), dict)


def traffic_sketches(*, since: str | None = None, until: str | None = None) -> Call[list[TrafficHour]]:
    """Counts of each hour's selections under each release, by default of the last day; times are ISO 8601."""
    return Call(Request("GET", f"{_PATH}/sketches", params={"from": since, "to": until}), items(TrafficHour))
