"""How the rows of an upload are to be read, from the query or from the fields of a form."""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from fastapi import Query

from shared.data_files.columns import parse_columns
from shared.errors import Invalid

MAX_COLUMNS_CHARS = 1000
_YES_OR_NO = {"true": True, "1": True, "false": False, "0": False}

Columns = Annotated[
    str,
    Query(
        max_length=MAX_COLUMNS_CHARS,
        description="Which column or key holds which field: input=question,output=answer (also instruction, label)",
    ),
]
AcceptLabels = Annotated[
    bool, Query(description="Whether labels that are none become the ones that are proposed for them")
]


class ReadingOptions(NamedTuple):
    """How to read rows."""

    columns: str = ""
    accept_labels: bool = False

    def with_form(self, form: Mapping[str, Any]) -> "ReadingOptions":
        """Return the same with what the fields of a form say; raises `Invalid` for what they cannot say."""
        columns, accepts = form.get("columns", self.columns), form.get("accept_labels")
        if not isinstance(columns, str) or len(columns) > MAX_COLUMNS_CHARS:
            raise Invalid("columns_malformed", f"columns is no text of at most {MAX_COLUMNS_CHARS} characters")
        if accepts is None:
            return ReadingOptions(columns, self.accept_labels)
        if accepts not in _YES_OR_NO:
            raise Invalid("request_invalid", "accept_labels is true or false: send one of them")
        return ReadingOptions(columns, _YES_OR_NO[str(accepts)])

    @property
    def parsed_columns(self) -> dict[str, str]:
        """The column of each field; raises `Invalid`."""
        return parse_columns(self.columns)

    @property
    def given(self) -> dict[str, Any]:
        """What differs from the defaults: a repeated request is recognised by it."""
        return {name: value for name, value in self._asdict().items() if value}
