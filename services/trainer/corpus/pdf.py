"""The pages of a PDF, read in a bounded process and spooled to a file: headers are known only at the last page."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from services.trainer.corpus.pdf_process import MEMORY_BYTES, PAGE_SECONDS

_PROGRAM = Path(__file__).with_name("pdf_process.py")
_LEAST_CHARS = 20
"""Characters that one page at least has in a file that is no scan."""


class PdfUnreadable(ValueError):
    """A PDF that gives no text; says why, and what to do."""


def spool_pages(path: Path, into: Path, check: Callable[[], None]) -> int:
    """Write the text of each page as a line of JSON; returns their number. Raises `PdfUnreadable`, and as `check`."""
    # Isolated: neither its environment nor its folder adds anything to the program.
    command = [sys.executable, "-I", str(_PROGRAM), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd="/", env={}) as process, into.open("wb") as out:  # noqa: S603
        assert process.stdout
        try:
            pages = _spooled(process.stdout, out.write, check)
        except BaseException:
            process.kill()
            raise
        said = process.wait()
    if said:
        raise PdfUnreadable(_killed(said, pages + 1))
    return pages


def pages_of(spooled: Path) -> Iterator[str]:
    """Yield the text of each page."""
    with spooled.open("rb") as lines:
        for line in lines:
            yield str(json.loads(line))


def _spooled(lines: IO[bytes], write: Callable[[bytes], object], check: Callable[[], None]) -> int:
    pages, longest = 0, 0
    for line in lines:
        check()
        said = json.loads(line)
        if "error" in said:
            raise PdfUnreadable(said["error"])
        if "text" in said:
            write(json.dumps(said["text"]).encode() + b"\n")
            pages, longest = pages + 1, max(longest, len("".join(said["text"].split())))
    if pages and longest < _LEAST_CHARS:
        raise PdfUnreadable(f"has no text on its {pages} pages, as a scan: OCR it first, then add the result")
    return pages


def _killed(status: int, page: int) -> str:
    if status == -signal.SIGALRM:
        return f"takes over {PAGE_SECONDS} s on page {page}: print it to a new PDF, or leave that page out"
    return f"ended its reader on page {page}, as one over {MEMORY_BYTES >> 20} MiB does: split it"
