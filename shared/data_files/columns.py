"""Which column, or which key, holds which field of a row."""

import csv
from collections.abc import Mapping

from shared.errors import Invalid

FIELDS = ("input", "output", "instruction", "label")
_EXAMPLE = "write input=COLUMN,output=COLUMN (also instruction, label)"


def parse_columns(text: str) -> dict[str, str]:
    """Read `input=question,output=answer`: the column of each field. A part with a comma stands in quotes.

    Raises `Invalid` `columns_malformed`.
    """
    if not text.strip():
        return {}
    found: dict[str, str] = {}
    for part in next(csv.reader([text.replace("\n", " ")], skipinitialspace=True)):
        field, is_mapped, column = part.partition("=")
        field, column = field.strip(), column.strip()
        if not is_mapped or field not in FIELDS or not column:
            raise Invalid("columns_malformed", f"{part[:64]!r} names no field and its column; {_EXAMPLE}")
        if field in found:
            raise Invalid("columns_malformed", f"the field {field} is named twice; {_EXAMPLE}")
        found[field] = column
    if "input" not in found:
        raise Invalid("columns_malformed", f"no column is named for the input; {_EXAMPLE}")
    return found


def mapped(fields: Mapping[str, object], columns: Mapping[str, str]) -> dict[str, object]:
    """Return the fields of a record that the columns name; raises `ValueError` where one is not there."""
    if columns["input"] not in fields:
        raise ValueError(f"field input: there is no {columns['input']!r} in it; {its_names(fields)}")
    return {field: fields[column] for field, column in columns.items() if column in fields}


def its_names(names: Mapping[str, object] | list[str]) -> str:
    """Say which fields a record, or which columns a file has."""
    shown = [repr(name[:40]) for name in list(names)[:12]]
    return f"its fields are {', '.join(shown) or 'none'}" + (", …" if len(names) > len(shown) else "")
