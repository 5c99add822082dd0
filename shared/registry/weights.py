"""Weights by digest: the LoRA folders of adapters and selectors, and the files of light selectors and prototypes."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from shared.adapter_files import CONFIG_NAME, ORIGINAL_NAME, WEIGHTS_NAME, adapter_digest, digest_before_weights
from shared.adapter_files.config import strict_object
from shared.errors import Invalid, NotFound
from shared.registry.store import ObjectStore
from shared.registry.store_errors import Corrupt, as_disk_error


class AdapterStream(NamedTuple):
    """An adapter as it is read from the store: its config, and its weights piece by piece."""

    config: bytes
    weights_bytes: int
    pieces: Iterator[bytes]
    """The last one comes only where the digest is right; else `Corrupt` is raised in its place."""


class Weights:
    """Weights in the store by digest, with copies on the local disk, which are verified when they are fetched."""

    def __init__(self, store: ObjectStore, cache_dir: Path) -> None:
        self._store = store
        self._cache_dir = cache_dir

    def put(self, folder: Path) -> str:
        """Store an adapter folder that is checked already; returns its digest.

        Of configs that say the same in other words the first one's original is kept: contents never change.
        """
        digest = adapter_digest(folder)
        original = f"adapters/{digest}/{ORIGINAL_NAME}"
        if (folder / ORIGINAL_NAME).is_file() and not self._store.exists(original):
            self._store.put_file(original, folder / ORIGINAL_NAME)
        for name in (CONFIG_NAME, WEIGHTS_NAME):  # weights last, because `has` looks for them
            self._store.put_file(f"adapters/{digest}/{name}", folder / name)
        return digest

    def config(self, digest: str) -> dict[str, Any]:
        """Return an adapter's config alone; raises `NotFound`, `Unavailable`."""
        return strict_object(self._store.get(f"adapters/{digest}/{CONFIG_NAME}"), "adapter_corrupt", CONFIG_NAME)

    def has(self, digest: str) -> bool:
        """Whether the store holds the adapter of this digest."""
        return self._store.exists(f"adapters/{digest}/{WEIGHTS_NAME}")

    def fetch(self, digest: str) -> Path:
        """Return a local folder with the adapter; a download verifies the digest; raises `Unavailable`, `NotFound`."""
        folder = self._cache_dir / "adapters" / digest
        if folder.is_dir():
            return folder
        with as_disk_error():
            if not folder.parent.is_dir():
                folder.parent.mkdir(parents=True, exist_ok=True)
                _open_like(self._cache_dir, folder.parent)
            part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".part-"))
        try:
            self._download(digest, part)
            _open_like(self._cache_dir, part)
            if not folder.is_dir():
                _rename(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return folder

    def _download(self, digest: str, part: Path) -> None:
        for name in (CONFIG_NAME, WEIGHTS_NAME):
            self._store.get_file(f"adapters/{digest}/{name}", part / name)
        if adapter_digest(part) != digest:
            raise Corrupt("adapter", f"{digest[:12]}")

    def stream(self, digest: str) -> AdapterStream:
        """Return an adapter that leaves no copy on the disk; raises `NotFound`, `Unavailable`."""
        config = self._store.get(f"adapters/{digest}/{CONFIG_NAME}")
        key = f"adapters/{digest}/{WEIGHTS_NAME}"
        size = next((found.size_bytes for found in self._store.objects(key)), None)
        if size is None:
            raise NotFound("object_not_found", f"no object {key!r} in the store")
        return AdapterStream(config, size, self._verified(digest, config, key, size))

    def _verified(self, digest: str, config: bytes, key: str, size: int) -> Iterator[bytes]:
        try:
            found = digest_before_weights(strict_object(config, "adapter_corrupt", CONFIG_NAME), size)
        except Invalid as error:
            raise Corrupt("adapter", f"{digest[:12]}") from error
        held_back = b""
        for piece in self._store.pieces(key):
            found.update(piece)
            if held_back:
                yield held_back
            held_back = piece
        if found.hexdigest() != digest:
            raise Corrupt("adapter", f"{digest[:12]}")
        yield held_back

    def put_light(self, file: Path) -> str:
        """Store a light selector's file; returns the SHA-256 of its content."""
        return self._put_file("light", file)

    def has_light(self, digest: str) -> bool:
        """Whether the store holds the light selector of this digest."""
        return self._store.exists(_file_key("light", digest))

    def fetch_light(self, digest: str) -> Path:
        """Return a local copy of the file; a download verifies the digest; raises `Unavailable`, `NotFound`."""
        return self._fetch_file("light", digest)

    def put_prototypes(self, file: Path) -> str:
        """Store a file of prototypes; returns the SHA-256 of its content."""
        return self._put_file("prototypes", file)

    def has_prototypes(self, digest: str) -> bool:
        """Whether the store holds the prototypes of this digest."""
        return self._store.exists(_file_key("prototypes", digest))

    def fetch_prototypes(self, digest: str) -> Path:
        """Return a local copy of the file; a download verifies the digest; raises `Unavailable`, `NotFound`."""
        return self._fetch_file("prototypes", digest)

    def _put_file(self, kind: str, file: Path) -> str:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        self._store.put_file(_file_key(kind, digest), file)
        return digest

    def _fetch_file(self, kind: str, digest: str) -> Path:
        file = self._cache_dir / kind / f"{digest}.safetensors"
        if file.is_file():
            return file
        with as_disk_error():
            file.parent.mkdir(parents=True, exist_ok=True)
        with as_disk_error(), tempfile.TemporaryDirectory(dir=file.parent, prefix=".part-") as folder:
            part = Path(folder) / file.name
            self._store.get_file(_file_key(kind, digest), part)
            if hashlib.sha256(part.read_bytes()).hexdigest() != digest:
                raise Corrupt("selector", f"{digest[:12]}")
            part.rename(file)
        return file


def _file_key(kind: str, digest: str) -> str:
    return f"{kind}/{digest}.safetensors"


def _open_like(cache_dir: Path, folder: Path) -> None:
    """Let those read a folder who may read the cache: a vLLM server may run as another user."""
    others = cache_dir.stat().st_mode & 0o055
    for path in (folder, *folder.iterdir()):
        path.chmod((0o700 if path.is_dir() else 0o600) | (others if path.is_dir() else others & 0o044))


def _rename(part: Path, folder: Path) -> None:
    try:
        part.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process has renamed the same content already
            raise
