"""Reads the text of a PDF's pages in a process of its own, within limits; run as a program.

It writes a JSON object a line: the number of pages, then each page's text, or an `error` that ends it. pypdf is written
in Python: a page that takes too long, or one that unpacks to gigabytes, ends this process and no other.
"""

import json
import logging
import resource
import signal
import sys
from pathlib import Path
from typing import Any

MEMORY_BYTES = 1 << 30
PAGE_SECONDS = 60
MAX_PAGES = 20_000
MAX_STREAM_BYTES = 16 << 20
MAX_PAGE_CHARS = 1 << 20
_FORGET_PAGES = 20
"""The reader keeps all that it has read: after so many pages all but the tree of pages is let go."""


def limit() -> None:
    """Bound this process: address space, what a stream may unpack to; no file can be written."""
    import pypdf

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    pypdf.overwrite_configuration(
        zlib_maximum_output_length=MAX_STREAM_BYTES,
        lzw_maximum_output_length=MAX_STREAM_BYTES,
        run_length_maximum_output_length=MAX_STREAM_BYTES,
        array_based_stream_maximum_output_length=MAX_STREAM_BYTES,
        brotli_maximum_output_length=MAX_STREAM_BYTES,
    )


def read(path: Path) -> None:
    """Write the pages of the file."""
    reader = _opened(path)
    count = len(reader.pages)
    say(pages=count)
    if count > MAX_PAGES:
        say(error=f"has {count} pages, and {MAX_PAGES} are read at most: split it")
        return
    tree = 0
    for number, page in enumerate(reader.pages):
        signal.alarm(PAGE_SECONDS)
        tree = tree or len(reader.resolved_objects)
        while number % _FORGET_PAGES == 0 and len(reader.resolved_objects) > tree:
            reader.resolved_objects.popitem()
        text = page.extract_text()
        if len(text) > MAX_PAGE_CHARS:
            say(error=f"has over {MAX_PAGE_CHARS} characters on page {number + 1}: split that page")
            return
        say(text=text)


def _opened(path: Path) -> Any:
    from pypdf import PdfReader

    reader = PdfReader(path)
    if reader.is_encrypted and not reader.decrypt(""):
        raise PermissionError
    return reader


def say(**fields: Any) -> None:
    """Write one line."""
    print(json.dumps(fields), flush=True)  # noqa: T201 - its output is what it is for


def main() -> None:
    """Read the file that the first argument names."""
    logging.disable(logging.CRITICAL)
    from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError

    limit()
    signal.alarm(PAGE_SECONDS)
    try:
        read(Path(sys.argv[1]))
    except (PermissionError, FileNotDecryptedError, DependencyError):
        say(error="is protected by a password: save it without one")
    except LimitReachedError:
        say(error=f"unpacks to more than {MAX_STREAM_BYTES >> 20} MiB in one stream: print it to a new PDF")
    except MemoryError:
        say(error=f"takes more than {MEMORY_BYTES >> 20} MiB to read: split it, or print it to a new PDF")
    except Exception as error:  # noqa: BLE001 - a broken file may raise whatever it likes
        say(error=f"is broken ({type(error).__name__}: {str(error)[:100]}): export it again")


if __name__ == "__main__":
    main()
