"""Prototypes: a selector that compares a text's vector with several centroids of each label; nothing is trained."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from shared.contracts.labels import short_form
from shared.contracts.manifests import ReleaseSelector
from shared.errors import Invalid
from shared.model.features import Floats, normalised
from shared.model.text_vectors import Check, Embed, hidden_states, sentence_vectors

SHARPNESS = 20.0
"""Nats for a cosine of 1; the release's weight corrects it."""
READ_TOKENS = 512
"""Tokens that are read of a text; later tokens are ignored."""
READ_DEPTH = 0.27
"""Share of a base model's layers that are read: later ones turn to the next token."""
_FORMAT = "signalbox-prototypes-1"


class Space(NamedTuple):
    """How vectors are seen: a few dimensions of a base model are a thousand times as large as the others."""

    centre: Floats
    """`[hidden]`, subtracted from every vector."""
    scale: Floats
    """`[hidden]`, by which it is divided then."""

    def directions(self, vectors: Floats) -> Floats:
        """The vectors `[texts, hidden]` as they are compared, each of length 1."""
        return normalised((vectors - self.centre) / self.scale)


class Centroids(NamedTuple):
    """The centroids of all labels."""

    vectors: Floats
    """`[centroids, hidden]`, each of length 1."""
    owners: NDArray[np.int64]
    """`[centroids]`: the column of the label that a centroid stands for."""


class Prototypes:
    """Scores every label by its nearest centroid."""

    def __init__(self, labels: Sequence[str], space: Space, centroids: Centroids, layer: int) -> None:
        """Take the centroids of the labels in a space, and the layer of the base model that is read (0 without)."""
        order = np.argsort(centroids.owners, kind="stable")
        self.labels = list(labels)
        self.space = space
        self.centroids = Centroids(centroids.vectors[order], centroids.owners[order])
        self.layer = layer
        self._starts = np.searchsorted(self.centroids.owners, np.arange(len(labels)))

    def in_order(self, labels: Sequence[str]) -> "Prototypes":
        """Return the same prototypes with their labels in another order."""
        columns = np.array([list(labels).index(label) for label in self.labels])
        vectors, owners = self.centroids
        return Prototypes(labels, self.space, Centroids(vectors, columns[owners]), self.layer)

    def score(self, vectors: Floats) -> Floats:
        """Return `[texts, labels]` float32 log-probabilities for the vectors `[texts, hidden]` of texts."""
        return self.log_probabilities(self.space.directions(vectors) @ self.centroids.vectors.T)

    def log_probabilities(self, cosines: Floats) -> Floats:
        """Return `[texts, labels]` by the nearest centroid of each label; `cosines` are `[texts, centroids]`."""
        logits = SHARPNESS * np.maximum.reduceat(cosines, self._starts, axis=1)
        logits -= logits.max(axis=1, keepdims=True, initial=-np.inf)
        scores: Floats = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
        return scores

    def save(self, file: Path) -> Path:
        """Write a safetensors file, with centroids in half precision, which is exact enough."""
        from safetensors.numpy import save_file

        vectors, owners = self.centroids
        tensors: dict[str, NDArray[Any]] = {
            "centre": self.space.centre, "scale": self.space.scale,
            "centroids": vectors.astype(np.float16), "owners": owners.astype(np.int32),
        }  # fmt: skip
        # One metadata entry only: safetensors writes several in any order, and the digest would differ.
        save_file(tensors, file, metadata={_FORMAT: json.dumps({"labels": self.labels, "layer": self.layer})})
        return file

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read what `save` wrote; raises `Invalid` for anything else."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(file, framework="numpy") as stored:
                known = json.loads((stored.metadata() or {})[_FORMAT])
                space = Space(stored.get_tensor("centre"), stored.get_tensor("scale"))
                vectors, owners = stored.get_tensor("centroids"), stored.get_tensor("owners")
        except (OSError, KeyError, SafetensorError) as error:
            raise Invalid("selector_invalid", f"{file.name} holds no prototypes of this version: {error}") from error
        centroids = Centroids(vectors.astype(np.float32), owners.astype(np.int64))
        return cls([short_form(label) for label in known["labels"]], space, centroids, known["layer"])


class Reading(NamedTuple):
    """Where the models lie that read texts for prototypes, and how they are run."""

    base_folder: Callable[[], Path]
    encoder_folder: Path | None = None
    dtype: str = "float32"
    """Of the base model."""
    check: Check = lambda: None
    """Called before each batch; it may raise."""

    def of(self, selector: ReleaseSelector, layer: int) -> Embed:
        """Return what reads texts for a release's prototypes; raises `Invalid` where its encoder is not here."""
        check_encoder(selector, self.encoder_folder)
        return self.sentences() if selector.encoder else self.states(layer)

    def sentences(self) -> Embed:
        """Return what reads texts with the sentence encoder; raises `Invalid` where there is none."""
        return sentence_vectors(self.encoder_folder, READ_TOKENS, self.check)

    def states(self, layer: int) -> Embed:
        """Return what reads texts with the base model, up to a layer."""
        from shared.model.base import load_tokenizer

        folder = self.base_folder()
        tokenizer = load_tokenizer(folder)
        return hidden_states(
            folder, tokenizer, layer, READ_TOKENS, dtype=self.dtype, check=self.check, without_first=True
        )


class PrototypeScorer(NamedTuple):
    """Prototypes, and what reads texts for them."""

    prototypes: Prototypes
    embed: Embed

    @classmethod
    def load(cls, file: Path, selector: ReleaseSelector, reading: Reading) -> Self:
        """Load a release's prototypes; raises as `Reading.of` does."""
        prototypes = Prototypes.load(file).in_order(selector.labels)
        return cls(prototypes, reading.of(selector, prototypes.layer))

    def score(self, texts: Sequence[str]) -> Floats:
        """Return `[texts, labels]` float32 log-probabilities."""
        return self.prototypes.score(self.embed(texts))


def check_encoder(selector: ReleaseSelector, encoder_folder: Path | None) -> None:
    """Raise `Invalid` where the release's prototypes need a sentence encoder that is not here."""
    from shared.model.base import base_model_id

    if not selector.encoder:
        return
    folder = encoder_folder if encoder_folder and (encoder_folder / "config.json").is_file() else None
    if folder is None or base_model_id(folder) != selector.encoder:
        what = "is another one" if folder else "is not there"
        raise Invalid(
            "encoder_missing",
            f"the release's selector reads texts with sentence encoder {selector.encoder}, and the one that "
            f"SIGNALBOX_ENCODER names here {what}: set it to that encoder's folder, or train the selector anew",
        )


def read_layer(folder: Path) -> int:
    """Return the layer of a base model whose states tell texts apart best."""
    config = json.loads((folder / "config.json").read_bytes())
    layers = config.get("num_hidden_layers") or config.get("text_config", {}).get("num_hidden_layers") or 2
    return max(1, round(READ_DEPTH * layers))
