"""Numbers of trained weights and of the base model's weights, counted from file headers without loading any."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

from shared.adapter_files import WEIGHTS_NAME
from shared.adapter_files.tensors import read_header
from shared.contracts.manifests import Release, ReleaseSelector

_FITTED = ("weights", "bias")
"""The trained tensors of a light selector; its third tensor holds frequencies of features, which are not trained."""


class Weights(Protocol):
    """Source of a release's weights: the registry, or the folders of a test."""

    def fetch(self, digest: str) -> Path:
        """A local PEFT folder."""
        ...

    def fetch_light(self, digest: str) -> Path:
        """A local file of a light selector."""
        ...

    def fetch_prototypes(self, digest: str) -> Path:
        """A local file of prototypes."""
        ...


class Trained(NamedTuple):
    """Number of trained weights, and their share of all weights, base model included (as PEFT prints it)."""

    trainable: int
    share: float


def base_count(base_folder: Path) -> int:
    """Return the number of the base model's weights; tied weights count once. Raises `Invalid` for a broken file."""
    return _count(sorted(base_folder.glob("*.safetensors")))


def selector_parameters(weights: Weights, selector: ReleaseSelector, base: int) -> dict[str, Trained]:
    """Return the trained weights of each part of a selector."""
    found = {}
    if selector.light:
        header = read_header(weights.fetch_light(selector.light))
        found["light"] = _trained(sum(math.prod(header[name].shape) for name in _FITTED), base)
    if selector.llm:
        found["llm"] = _trained(_count([weights.fetch(selector.llm) / WEIGHTS_NAME]), base)
    return found


def adapter_parameters(weights: Weights, release: Release, base: int) -> dict[str, Trained]:
    """Return the trained weights of each label's adapter; PiSSA adapters count at the doubled rank of their files."""
    folders = {label: weights.fetch(entry.adapter) for label, entry in release.labels.items()}
    return {label: _trained(_count([folder / WEIGHTS_NAME]), base) for label, folder in folders.items()}


def _trained(count: int, base: int) -> Trained:
    return Trained(count, count / (base + count))


def _count(files: Iterable[Path]) -> int:
    return sum(math.prod(span.shape) for file in files for span in read_header(file).values())
