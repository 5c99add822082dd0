"""Sentence vectors from a model's input embedding only: no forward pass, no model in memory (paper, section 3.3)."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.contracts.training_settings import Pooling
from shared.errors import Invalid

Floats = NDArray[np.float32]

# Names of the input embedding in the common model families.
_EMBEDDING_ENDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")


def normalised(vectors: Floats) -> Floats:
    """Return the vectors scaled to length 1; vectors of length 0 stay as they are."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)


class EmbeddingTable:
    """The input embedding of a model, `[vocabulary, hidden]`, float32."""

    def __init__(self, table: Floats) -> None:
        self.table = table

    @classmethod
    def from_folder(cls, folder: Path) -> "EmbeddingTable":
        """Read only this tensor from the folder's safetensors files; raises `Invalid` where none has a known name."""
        for file, name in tensor_names(folder):
            if name.endswith(_EMBEDDING_ENDINGS):
                return cls(_read_tensor(file, name))
        raise Invalid(
            "embedding_missing", f"no input embedding in the safetensors files of {folder.name!r}: save the whole model"
        )

    def vectors(self, token_ids: Sequence[Sequence[int]], pooling: Pooling = "sum") -> Floats:
        """Return `[n, hidden]` float32: the sum or mean over each row's tokens; a row without tokens gives zeros."""
        return np.stack([self._pool(ids, pooling) for ids in token_ids]) if token_ids else self.table[:0]

    def _pool(self, ids: Sequence[int], pooling: Pooling) -> Floats:
        total: Floats = self.table[np.asarray(ids, dtype=np.int64)].sum(axis=0, dtype=np.float32)
        return total / np.float32(max(len(ids), 1)) if pooling == "mean" else total


def tensor_names(folder: Path) -> list[tuple[Path, str]]:
    """Return each tensor of a model folder's safetensors files, with the file that holds it."""
    from safetensors import safe_open

    index = folder / "model.safetensors.index.json"
    if index.is_file():
        weight_map: dict[str, str] = json.loads(index.read_text())["weight_map"]
        return [(folder / file, name) for name, file in weight_map.items()]
    found = []
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="numpy") as tensors:
            found += [(file, name) for name in tensors.keys()]  # noqa: SIM118
    return found


def _read_tensor(file: Path, name: str) -> Floats:
    from safetensors import safe_open

    with safe_open(file, framework="numpy") as tensors:
        if tensors.get_slice(name).get_dtype() != "BF16":
            return np.ascontiguousarray(tensors.get_tensor(name), dtype=np.float32)
    with safe_open(file, framework="pt") as tensors:  # numpy has no bfloat16
        converted: Floats = tensors.get_tensor(name).float().numpy()
    return converted
