"""Files that people have, as the input of a batch: requests or plain inputs as JSON lines, or a table with a column."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared.errors import Invalid

CHATS, SELECTIONS = "/v1/chat/completions", "/v1/select"


def batch_input(file: Path, *, column: str, endpoint: str, model: str, max_tokens: int | None) -> bytes:
    """Return the file as the input of a batch at this endpoint.

    Lines that are requests already stay as they are. Raises `Invalid` that names the line, or the columns there are.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid("not_utf8", f"{file} is not UTF-8 at byte {error.start}: save it as UTF-8") from error
    except OSError as error:
        raise Invalid("file_unreadable", f"{file} cannot be read: {error.strerror}") from error
    rows = _of_table(text, file, column) if column or file.suffix == ".csv" else _of_lines(text, file)
    lines = (_line(number, row, endpoint, model, max_tokens) for number, row in rows)
    return "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines).encode()


def _of_table(text: str, file: Path, column: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    names = reader.fieldnames or ()
    column = column or "input"
    if column not in names:
        raise Invalid(
            "column_unknown", f"{file} has no column {column!r}: name with --column one of {', '.join(names)}"
        )
    for number, row in enumerate(reader, 2):
        yield number, {"input": row[column]}


def _of_lines(text: str, file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Invalid("line_malformed", f"{file}, line {number} is no JSON: {error}") from error
        if not isinstance(row, dict) or not ("body" in row or isinstance(row.get("input"), str)):
            raise Invalid(
                "line_malformed",
                f'{file}, line {number} is neither a request of a batch nor {{"input": "…"}}: write one of them a line',
            )
        yield number, row


def _line(number: int, row: dict[str, Any], endpoint: str, model: str, max_tokens: int | None) -> dict[str, Any]:
    if "body" in row:
        return row
    body: dict[str, Any] = {"input": row["input"]}
    if endpoint != SELECTIONS:
        body = {"model": row.get("model", model)}
        body |= {"max_tokens": max_tokens} if max_tokens else {}
        is_chat = endpoint == CHATS
        body |= {"messages": [{"role": "user", "content": row["input"]}]} if is_chat else {"prompt": row["input"]}
    return {"custom_id": str(row.get("custom_id", f"line-{number}")), "method": "POST", "url": endpoint, "body": body}
