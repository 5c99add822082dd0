"""Lists in OpenAI's format: a page after the item that a cursor names."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import Query

from shared.errors import Invalid

After = Annotated[str, Query(max_length=64, description="The id of the last item of the page before")]
Order = Annotated[Literal["asc", "desc"], Query(description="By the time of creation")]


class CursorUnknown(Invalid):
    """No item has the id after which a page was asked for."""

    param = "after"


def page(items: Sequence[dict[str, Any]], after: str, limit: int) -> dict[str, Any]:
    """Return the items that follow the one whose id is `after`, in their order; raises `CursorUnknown`."""
    ids = [item["id"] for item in items]
    if after and after not in ids:
        raise CursorUnknown("cursor_unknown", f"nothing in this list has the id {after!r}: list from the beginning")
    begin = ids.index(after) + 1 if after else 0
    return listing(items[begin : begin + limit], has_more=begin + limit < len(items))


def listing(data: Sequence[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """Return a page."""
    return {
        "object": "list",
        "data": list(data),
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }
