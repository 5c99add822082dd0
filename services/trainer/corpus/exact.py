"""The third module: documents whose normalised texts are equal; digests lie on disk, so memory has a bound."""

import hashlib
import sqlite3
from pathlib import Path

_CACHE_KIB = 32 << 10


def digest_of(text: str) -> bytes:
    """Return 16 bytes that texts share which differ in case and spaces alone."""
    folded = text.casefold().encode("utf-8", "surrogatepass").translate(None, b" \t\n\r\f\v")
    return hashlib.blake2b(folded, digest_size=16).digest()


def opened(path: Path) -> sqlite3.Connection:
    """Open a database that a kill may lose: it is filled again from what its job has stored."""
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.executescript(
        f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-{_CACHE_KIB}; PRAGMA temp_store=FILE"
    )
    return database


class Seen:
    """Digests of the documents that were kept."""

    def __init__(self, path: Path) -> None:
        self._database = opened(path)
        self._database.execute("CREATE TABLE seen (digest BLOB PRIMARY KEY) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def add(self, digest: bytes) -> bool:
        """Note a digest; returns whether it is new."""
        return self._database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (digest,)).rowcount > 0

    def close(self) -> None:
        """Close the database."""
        self._database.close()
