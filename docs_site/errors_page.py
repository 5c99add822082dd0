"""The page of error codes: cause and remedy of each, as the code says it."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from docs_site.error_codes import Told, told
from docs_site.tables import cell, page, table

_HEAD = """
Every error has a `code`, which is stable, and a sentence: the cause, then what to do. `…` stands for names and numbers.
Over HTTP it is the member `code` of a problem (RFC 9457), beside `detail`, `status` and `retryable`; in OpenAI's format
the `code` of `error`, where 422 becomes 400, and `key_missing` and `key_unknown` are `invalid_api_key`. A job that
failed has it as `error.code`. The command line prints it and ends with status 1; the Python client raises it as
`error.code`.

With the status 429 or 503 the same call may succeed later: wait for the time in `Retry-After`, then send it again. A
status is that of the answer; a code without one stands in a job, in a line of a batch, or in a log alone.
"""


def errors_page(root: Path) -> str:
    """Return the page."""
    by_code: dict[str, list[Told]] = {}
    for one in told(root):
        by_code.setdefault(one.code, []).append(one)
    areas: dict[str, list[str]] = {area: [] for area in _AREAS}
    for code in sorted(by_code):
        areas[_area(by_code[code])].append(code)
    parts = [_HEAD, *(_section(area, areas[area], by_code) for area in _AREAS)]
    return page("Error codes", "the errors in the code", parts)


_API = "Of the API and of jobs"
_AREAS = {
    _API: "",
    "Of the command line": "Told by `signalbox` alone.",
    "Of the Python client": "Raised without asking the API, or about its answer.",
    "Between processes": "Told to no caller; they stand in logs.",
}


def _area(ones: Iterable[Told]) -> str:
    shown = [one for one in ones if not one.is_internal]
    if not shown:
        return "Between processes"
    tops = {one.file.split("/")[0] if "/cli/" not in one.file else "cli" for one in shown}
    if tops <= {"cli", "lab"}:
        return "Of the command line"
    return "Of the Python client" if tops == {"clients"} else _API


def _section(area: str, codes: Sequence[str], by_code: dict[str, list[Told]]) -> str:
    rows = [_row(code, by_code[code]) for code in codes]
    return f"## {area}\n\n{_AREAS[area]}\n\n{table(['code', 'cause and remedy', 'from'], rows)}"


def _row(code: str, ones: Sequence[Told]) -> tuple[str, str, str]:
    statuses = " ".join(str(status) for status in sorted({one.status for one in ones if one.status}))
    sentences = dict.fromkeys(_readable(one.detail) for one in sorted(ones, key=lambda one: one.file))
    files = sorted({_room(one.file) for one in ones})
    name = f'<a id="{code}"></a>`{code}` {statuses}'
    return name, "<br>".join(sentences), ", ".join(file.replace("_", "\\_") for file in files)


def _readable(sentence: str) -> str:
    sentence = re.sub(r"…(?: ?…)+", "…", cell(sentence))
    return sentence.replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_") if "`" not in sentence else sentence


def _room(file: str) -> str:
    return "/".join(file.split("/")[:2])
