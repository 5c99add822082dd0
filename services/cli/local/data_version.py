"""The format of a data folder and of its backups: a newer one is refused, an older one is read."""

from pathlib import Path

from services.cli.local.secrets import write_secret
from shared.errors import Conflict

FORMAT = 1
"""Raised by a change after which an older version would misread the folder."""
FILE = "VERSION"


def check_version(data_dir: Path) -> None:
    """Raise `Conflict` where a newer version wrote the folder; one without a number is of the first version."""
    file = data_dir / FILE
    if not file.is_file():
        write_secret(file, f"{FORMAT}\n")
        return
    written = file.read_text().strip()
    if not written.isdecimal():
        raise Conflict("data_version_unreadable", f"{file} holds no number: put it back from a backup")
    check_format(int(written), str(data_dir))


def check_format(number: int, what: str) -> None:
    """Raise `Conflict` where a newer version wrote something in this format."""
    if number > FORMAT:
        raise Conflict(
            "data_newer",
            f"{what} is of a newer version (format {number}, this one reads up to {FORMAT}): use that version, or "
            "restore a backup from before the upgrade into another folder",
        )
