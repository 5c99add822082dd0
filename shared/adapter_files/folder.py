"""The adapter folder: its allowed files and its digest."""

import hashlib
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from shared.adapter_files.config import canonical_config, read_config
from shared.errors import Invalid

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
IGNORED_NAMES = frozenset({"README.md"})  # PEFT writes this file beside the weights
_PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
_CODE = frozenset({".py", ".pyc", ".so"})
_DIGEST_FRAME = b"signalbox adapter 1\n"
_CHUNK = 1 << 20


def check_file_name(name: str) -> None:
    """Raise `Invalid` unless an adapter may hold a file of this name."""
    if name in {CONFIG_NAME, WEIGHTS_NAME} or name in IGNORED_NAMES:
        return
    ending = PurePosixPath(name.lower()).suffix
    if ending in _PICKLES:
        remedy = (
            f"send {WEIGHTS_NAME} in its place, which PEFT writes with safe_serialization=True"
            if name.lower().startswith("adapter_model")
            else f"it is no part of an adapter, leave it out and send {CONFIG_NAME} and {WEIGHTS_NAME} alone"
        )
        raise Invalid("adapter_pickle_refused", f"{name!r} may be a pickle, which runs code when it is read: {remedy}")
    if ending in _CODE:
        raise Invalid("adapter_code_refused", f"{name!r} is program code: an adapter holds a config and weights only")
    raise Invalid("adapter_file_unknown", f"{name!r} has no place in an adapter: send {CONFIG_NAME} and {WEIGHTS_NAME}")


def check_folder(folder: Path) -> None:
    """Raise `Invalid` unless the folder holds both files, as plain files, and nothing that is not allowed."""
    entries = list(folder.iterdir()) if folder.is_dir() else []
    for entry in entries:
        if entry.is_symlink() or not entry.is_file():
            raise Invalid("adapter_file_unknown", f"{entry.name!r} is not a plain file: send the files themselves")
        check_file_name(entry.name)
    check_complete({entry.name for entry in entries})


def check_loadable(folder: Path) -> None:
    """Raise `Invalid` where PEFT would find a pickle instead of safetensors, or where the folder holds both."""
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    for name in sorted(names):
        if PurePosixPath(name.lower()).suffix in _PICKLES:
            check_file_name(name)
    check_complete(names)


def check_complete(names: set[str]) -> None:
    """Raise `Invalid` unless config and weights are both among `names`."""
    missing = sorted({CONFIG_NAME, WEIGHTS_NAME} - names)
    if missing:
        raise Invalid("adapter_file_missing", f"the adapter lacks {' and '.join(missing)}: save it with PEFT again")


def adapter_digest(folder: Path) -> str:
    """Return the SHA-256, in hex, over the canonical config and the weights, each preceded by its length."""
    config = canonical_config(read_config(folder / CONFIG_NAME))
    weights = folder / WEIGHTS_NAME
    digest = hashlib.sha256(_DIGEST_FRAME + _length(len(config)) + config)
    with weights.open("rb") as stream:
        digest.update(_length(weights.stat().st_size))
        _feed(digest, stream)
    return digest.hexdigest()


def check_digest(folder: Path, digest: str) -> None:
    """Raise `Invalid` where the folder's digest is not `digest`."""
    found = adapter_digest(folder)
    if found != digest:
        raise Invalid(
            "adapter_digest_mismatch", f"the adapter is {found[:12]}, not {digest[:12]}: it was damaged, send it again"
        )


def _length(count: int) -> bytes:
    return count.to_bytes(8, "big")


def _feed(digest: "hashlib._Hash", stream: BinaryIO) -> None:
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
