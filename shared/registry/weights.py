"""Weights by digest: the LoRA folders of adapters and selectors, and the files of light selectors."""

import hashlib
import shutil
import tempfile
from pathlib import Path

from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME, adapter_digest
from shared.errors import Unavailable
from shared.registry.store import ObjectStore
from shared.registry.store_errors import as_disk_error


class Weights:
    """Weights in the store by digest, with copies on the local disk, which are verified when they are fetched."""

    def __init__(self, store: ObjectStore, cache_dir: Path) -> None:
        self._store = store
        self._cache_dir = cache_dir

    def put(self, folder: Path) -> str:
        """Store an adapter folder that is checked already; returns its digest."""
        digest = adapter_digest(folder)
        for name in (CONFIG_NAME, WEIGHTS_NAME):  # weights last, because `has` looks for them
            self._store.put_file(f"adapters/{digest}/{name}", folder / name)
        return digest

    def has(self, digest: str) -> bool:
        """Whether the store holds the adapter of this digest."""
        return self._store.exists(f"adapters/{digest}/{WEIGHTS_NAME}")

    def fetch(self, digest: str) -> Path:
        """Return a local folder with the adapter; a download verifies the digest; raises `Unavailable`, `NotFound`."""
        folder = self._cache_dir / "adapters" / digest
        if folder.is_dir():
            return folder
        with as_disk_error():
            folder.parent.mkdir(parents=True, exist_ok=True)
            part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".part-"))
        try:
            self._download(digest, part)
            if not folder.is_dir():
                _rename(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return folder

    def _download(self, digest: str, part: Path) -> None:
        for name in (CONFIG_NAME, WEIGHTS_NAME):
            self._store.get_file(f"adapters/{digest}/{name}", part / name)
        if adapter_digest(part) != digest:
            raise Unavailable("adapter_corrupt", f"the store's copy of adapter {digest[:12]} does not match its digest")

    def put_light(self, file: Path) -> str:
        """Store a light selector's file; returns the SHA-256 of its content."""
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        self._store.put_file(_light_key(digest), file)
        return digest

    def has_light(self, digest: str) -> bool:
        """Whether the store holds the light selector of this digest."""
        return self._store.exists(_light_key(digest))

    def fetch_light(self, digest: str) -> Path:
        """Return a local copy of the file; a download verifies the digest; raises `Unavailable`, `NotFound`."""
        file = self._cache_dir / "light" / f"{digest}.safetensors"
        if file.is_file():
            return file
        with as_disk_error():
            file.parent.mkdir(parents=True, exist_ok=True)
        with as_disk_error(), tempfile.TemporaryDirectory(dir=file.parent, prefix=".part-") as folder:
            part = Path(folder) / file.name
            self._store.get_file(_light_key(digest), part)
            if hashlib.sha256(part.read_bytes()).hexdigest() != digest:
                raise Unavailable(
                    "selector_corrupt", f"the store's copy of selector {digest[:12]} does not match its digest"
                )
            part.rename(file)
        return file


def _light_key(digest: str) -> str:
    return f"light/{digest}.safetensors"


def _rename(part: Path, folder: Path) -> None:
    try:
        part.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process has renamed the same content already
            raise
