"""Calls about what selectors read and decided: the traffic log, its policy, counts by hour."""

from collections.abc import Mapping
from typing import Any

from signalbox.call import Call
from signalbox.requests import Request

_PATH = "/v1/traffic"


def traffic(*, after: str | None = None, since: str | None = None, limit: int = 100) -> Call[dict[str, Any]]:
    """Rows of the traffic log, oldest first, as `items`; `next` is the `after` of the next page, null at the end."""
    return Call(Request("GET", _PATH, params={"after": after, "since": since, "limit": limit}), dict)


def traffic_policy() -> Call[dict[str, Any]]:
    """What the traffic log keeps; by default nothing."""
    return Call(Request("GET", f"{_PATH}/policy"), dict)


def set_traffic_policy(policy: Mapping[str, Any]) -> Call[dict[str, Any]]:
    """Replace what the traffic log keeps, as in `{"on": True, "share": 0.1}`; what is left out gets its default."""
    return Call(Request("PUT", f"{_PATH}/policy", json=dict(policy)), dict)


def traffic_sketches(*, since: str | None = None, until: str | None = None) -> Call[list[dict[str, Any]]]:
    """Counts of each hour's selections under each release, by default of the last day; times are ISO 8601."""
    return Call(Request("GET", f"{_PATH}/sketches", params={"from": since, "to": until}), lambda raw: raw["items"])
