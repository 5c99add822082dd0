"""Query parameters that no route knows are refused: a filter with a typing error would list everything."""

from fastapi import Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import ParamTypes

from shared.errors import Invalid

_QUERY = ParamTypes.query


def refuse_unknown(request: Request) -> None:
    """Raise `Invalid` `parameter_unknown` where the route has no query parameter of a name that was sent."""
    sent = set(request.query_params)
    if not sent:  # most requests: the comparison costs nothing there
        return
    fields = get_flat_params(request.scope["route"].dependant)
    # The fields of a model of query parameters say no place.
    known = {field.alias for field in fields if getattr(field.field_info, "in_", _QUERY) is _QUERY}
    if unknown := sorted(sent - known):
        has = f"it has {', '.join(sorted(known))}" if known else "it has none"
        raise Invalid("parameter_unknown", f"leave out the query parameter {unknown[0][:64]!r}, not known here: {has}")
