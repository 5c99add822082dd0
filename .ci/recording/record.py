"""Record a command at a terminal as an asciinema cast: `python .ci/recording/record.py FILE.cast -- COMMAND`.

A line of the file is a moment, in seconds since the start, and what was sent to the terminal then (asciicast v2).
"""

import argparse
import codecs
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path

COLUMNS, ROWS = 80, 30


def main() -> int:
    """Record the command, and show it meanwhile; returns its status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cast", type=Path)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = os.environ | {"TERM": "xterm", "COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
    process = subprocess.Popen(args.command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)  # noqa: S603
    os.close(theirs)
    began = time.monotonic()
    head = {
        "version": 2,
        "width": COLUMNS,
        "height": ROWS,
        "title": " ".join([Path(args.command[0]).name, *args.command[1:]]),
    }
    with args.cast.open("w") as file:
        file.write(json.dumps(head) + "\n")
        for text in _output(ours):
            file.write(json.dumps([round(time.monotonic() - began, 3), "o", text]) + "\n")
    return process.wait()


def _output(terminal: int) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while True:
        try:
            read = os.read(terminal, 65536)
        except OSError:  # the last process at that terminal has ended
            return
        sys.stdout.buffer.write(read)
        sys.stdout.buffer.flush()
        yield decoder.decode(read)


if __name__ == "__main__":
    sys.exit(main())
