"""The call about what jobs used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from signalbox.call import Call
from signalbox.requests import Request
from signalbox.results import Record


@dataclass(frozen=True, kw_only=True)
class UsedRow(Record):
    """What one group used; `raw` has its day, key or label beside the numbers."""


@dataclass(frozen=True, kw_only=True)
class Usage(Record):
    """Numbers of answered, failed and rejected requests and of tokens: a row for each group, and their sum."""

    _KINDS: ClassVar = {"items": UsedRow}
    items: list[UsedRow]
    total: Mapping[str, int] = field(default_factory=dict)


def usage(*, since: str | None = None, until: str | None = None, group_by: Sequence[str] | None = None) -> Call[Usage]:
    """What jobs used, by default of the last 30 days, a row a day; days are ISO 8601, such as 2026-01-31.

    `group_by` names what rows are told apart by: `day`, `key`, `label`.
    """
    params = {"from": since, "to": until, "group_by": group_by}
    return Call(Request("GET", "/v1/usage", params=params), Usage.from_dict)
