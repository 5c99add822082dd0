"""The files of `tests/data/formats`: what each holds, and what the reader is to make of it."""

import json
import time
import tracemalloc
from pathlib import Path

from shared.contracts.rows import dump_row
from shared.data_files.columns import parse_columns
from shared.data_files.reader import RowReader
from shared.data_files.refusals import RowsRefused
from shared.data_files.unpack import has_zstd
from shared.errors import Invalid

FOLDER = Path(__file__).parents[1] / "data" / "formats"


def cases():
    """What the index says of every file; of a packed one, what holds where nothing unpacks it."""
    found = [json.loads(line) for line in (FOLDER / "index.jsonl").read_text().split("\n") if line]
    return [{**case, "format": None, **case["without_zstd"]} if lacks_reader(case) else case for case in found]


def lacks_reader(case):
    return "without_zstd" in case and not has_zstd()


def differences(case, piece_bytes):
    """How what is read of a file differs from what its index says; empty where nothing does."""
    found = outcome(case, piece_bytes)
    stated = {name: case.get(name) for name in ("refused", "format", "lines")}
    if not case.get("refused"):
        stated |= {"rows": case["rows"], "notes": case.get("notes", [])}
    wrong = [
        f"{name}: {found.get(name)!r}, stated is {value!r}"
        for name, value in stated.items()
        if value is not None and found.get(name) != value
    ]
    wrong += [
        f"it does not say {text!r}: {found['says']}" for text in case.get("says", []) if text not in found["says"]
    ]
    if found.get("labels", {}) != case.get("labels", {}):
        wrong.append(f"labels: {found.get('labels')}")
    return wrong


def outcome(case, piece_bytes):
    """What a reader makes of a file that comes in pieces of this size."""
    reader = RowReader(parse_columns(case.get("columns", "")), accept_labels=case.get("accept_labels", False))
    data = (FOLDER / case["file"]).read_bytes()
    try:
        pieces = (data[at : at + piece_bytes] for at in range(0, len(data), piece_bytes))
        rows = [found.row for piece in pieces for found in reader.feed(piece)] + [f.row for f in reader.end()]
    except Invalid as error:
        refused = {"refused": error.code, "says": error.detail}
        if isinstance(error, RowsRefused):
            refused["lines"] = [wrong.line for wrong in error.wrong]
            refused["labels"] = {one.given: one.proposed for one in error.renamed}
        return refused
    return {
        "format": reader.format,
        "rows": [json.loads(dump_row(row)) for row in rows],
        "notes": reader.notes,
        "labels": {one.given: one.proposed for one in reader.names.renamed},
        "says": "",
    }


def csv_stream(total_bytes, piece_bytes=256 << 10):
    """A table of this size in pieces, with separators, quotes and line ends in its fields."""
    yield b"question;answer\r\n"
    text = ('Was, wenn; ""es"" so ist? ' * 20 + "\n") * 4
    gathered, made = [], 0
    while made < total_bytes:
        gathered.append(f'"{made} {text}";"{text}"\r\n'.encode())
        made += len(gathered[-1])
        if len(gathered) * len(gathered[0]) >= piece_bytes:
            yield b"".join(gathered)
            gathered.clear()
    yield b"".join(gathered)


def read_stream(pieces):
    """Number of rows, most bytes that reading held at once besides what it began with, and seconds."""
    reader, started = RowReader(), time.perf_counter()
    tracemalloc.start()
    try:
        count = sum(1 for piece in pieces for _ in reader.feed(piece)) + sum(1 for _ in reader.end())
        return count, tracemalloc.get_traced_memory()[1], time.perf_counter() - started
    finally:
        tracemalloc.stop()
