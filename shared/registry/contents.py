"""Objects whose keys name their content, by digest or id: which these are, and whether content and name agree."""

import hashlib
import re
from pathlib import Path

from pydantic import ValidationError

from shared.adapter_files import adapter_digest
from shared.contracts.manifests import BaseModelManifest
from shared.contracts.rows import id_of_digest
from shared.errors import SignalboxError
from shared.registry.records import RELEASES

_KEY = re.compile(
    r"adapters/(?P<adapter>[0-9a-f]{64})/[^/]+"
    r"|(?:light|prototypes)/(?P<file>[0-9a-f]{64})\.safetensors"
    r"|tenants/[^/]+/(?:datasets|sets)/(?P<rows>ds_[0-9a-f]{24})\.jsonl"
    r"|tenants/[^/]+/corpus_files/(?P<corpus>[0-9a-f]{64})"
    r"|tenants/[^/]+/releases/(?P<release>rel_[0-9a-f]{16})\.json"
    r"|tenants/[^/]+/files/[^/]+/(?P<upload>[0-9a-f]{64})"
    r"|base/[^/]+/(?P<base>[0-9a-f]{64})\.json"
)
_NAMED = ("adapter", "file", "rows", "corpus", "upload")
NAMES = re.compile(r"(?<![0-9a-z])(?:[0-9a-f]{64}|ds_[0-9a-f]{24})(?![0-9a-z])")
"""Names of contents as they stand in records, releases and jobs."""


def name_in(key: str) -> str:
    """Return the digest or id by which others name the content of this key; empty for a key without one."""
    found = _KEY.fullmatch(key)
    return next((found[kind] for kind in _NAMED if found[kind]), "") if found else ""


def group_of(key: str) -> str:
    """Return what has to be looked at as a whole: an adapter's folder, or the key itself."""
    found = _KEY.fullmatch(key)
    return f"adapters/{found['adapter']}" if found and found["adapter"] else key


def is_whole(root: Path, key: str) -> bool:
    """Whether the file of a key below `root`, with the others of its group, has the content that the key names."""
    found = _KEY.fullmatch(key)
    if found is None:
        return True
    file = root / key
    try:
        if digest := found["adapter"]:
            return adapter_digest(file.parent) == digest
        if name := found["release"]:
            return bool(RELEASES.read(name, file.read_bytes()))
        if digest := found["base"]:
            return BaseModelManifest.model_validate_json(file.read_bytes()).digest == digest
        with file.open("rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    except (OSError, SignalboxError, ValidationError):
        return False
    return (id_of_digest(sha256) if found["rows"] else sha256) == name_in(key)
