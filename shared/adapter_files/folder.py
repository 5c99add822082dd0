"""The adapter folder: its allowed files and its digest."""

import hashlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from shared.adapter_files.config import canonical_config, read_config
from shared.errors import Invalid

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
ORIGINAL_NAME = "original_config.json"
"""The config as it was sent, where the stored one says the same in other words; no part of the digest."""
INITIAL_NAME = "initial"
"""Folder of the adapter before its training, where an upload brings it."""
_BESIDE = frozenset({"README.md", ORIGINAL_NAME})  # PEFT writes the first beside the weights
_PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
_MLX_WEIGHTS = "adapters.safetensors"
_DIGEST_FRAME = b"signalbox adapter 1\n"
_CHUNK = 1 << 20
_SAVE_SAFELY = (
    f"load it with PEFT where you trust it and save it again with safe_serialization=True, which writes {WEIGHTS_NAME}"
)


def check_folder(folder: Path) -> None:
    """Raise `Invalid` unless the folder holds both files, as plain files, and nothing that is not allowed."""
    entries = list(folder.iterdir()) if folder.is_dir() else []
    for entry in entries:
        if entry.name == INITIAL_NAME and entry.is_dir() and not entry.is_symlink():
            continue
        if entry.is_symlink() or not entry.is_file():
            raise Invalid("adapter_file_unknown", f"{entry.name!r} is not a plain file: send the files themselves")
        if entry.name not in {CONFIG_NAME, WEIGHTS_NAME, *_BESIDE}:
            raise Invalid(
                "adapter_file_unknown",
                f"{entry.name!r} has no place in an adapter: send {CONFIG_NAME} and {WEIGHTS_NAME}",
            )
    check_complete({entry.name for entry in entries})


def check_loadable(folder: Path) -> None:
    """Raise `Invalid` where PEFT would find a pickle instead of safetensors, or where the folder holds both."""
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    for name in sorted(names):
        if PurePosixPath(name.lower()).suffix in _PICKLES:
            raise Invalid(
                "adapter_pickle_refused",
                f"{name!r} may be a pickle, which runs code when it is read: remove it, or {_SAVE_SAFELY}",
            )
    check_complete(names)


def check_complete(names: Collection[str]) -> None:
    """Raise `Invalid` unless config and weights are both among `names`, which are those of all files there."""
    missing = sorted({CONFIG_NAME, WEIGHTS_NAME} - set(names))
    if not missing:
        return
    if WEIGHTS_NAME in missing and (pickle := next((name for name in names if _is_pickled_adapter(name)), None)):
        raise Invalid(
            "adapter_pickle_refused",
            f"{pickle!r} may be a pickle, which runs code when it is read: {_SAVE_SAFELY}",
        )
    if WEIGHTS_NAME in missing and _MLX_WEIGHTS in names:
        raise Invalid(
            "adapter_format_unknown",
            f"{_MLX_WEIGHTS} is MLX's, which stores LoRA transposed: write it as PEFT does, or fuse the adapter "
            "(mlx_lm.fuse) and serve a base model of its own",
        )
    raise Invalid("adapter_file_missing", f"the adapter lacks {' and '.join(missing)}: save it with PEFT again")


def _is_pickled_adapter(name: str) -> bool:
    return name.lower().startswith("adapter_model") and PurePosixPath(name.lower()).suffix in _PICKLES


def adapter_digest(folder: Path) -> str:
    """Return the SHA-256, in hex, over the canonical config and the weights, each preceded by its length."""
    weights = folder / WEIGHTS_NAME
    digest = digest_before_weights(read_config(folder / CONFIG_NAME), weights.stat().st_size)
    with weights.open("rb") as stream:
        _feed(digest, stream)
    return digest.hexdigest()


def digest_before_weights(config: dict[str, Any], weights_bytes: int) -> "hashlib._Hash":
    """Return an adapter's digest as it stands before the bytes of its weights are fed to it."""
    canonical = canonical_config(config)
    return hashlib.sha256(_DIGEST_FRAME + _length(len(canonical)) + canonical + _length(weights_bytes))


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
