"""An adapter's tensors, memory-mapped from its file: they are read only when they are copied into a slot."""

import json
import math
import mmap
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME, size_of
from shared.errors import Invalid

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_LENGTH_BYTES = 8
_PREFIX = "base_model.model."
_A, _B, _MAGNITUDE = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"


class LowRank(NamedTuple):
    """The weights of one module, whose delta is `scaling * B A x`; ranks and scalings may differ between modules."""

    a: Tensor  # [rank, in]
    b: Tensor  # [out, rank]
    magnitude: Tensor | None  # DoRA's, [out]
    scaling: float


class AdapterWeights(NamedTuple):
    """All modules by their full name."""

    modules: dict[str, LowRank]

    @property
    def rank(self) -> int:
        """The largest rank of a module: what the adapter needs slots for."""
        return max((low.a.shape[0] for low in self.modules.values()), default=0)


def map_adapter(folder: Path) -> AdapterWeights:
    """Map the adapter in a checked folder; raises `Invalid` if files are missing or inconsistent."""
    file = folder / WEIGHTS_NAME
    if not file.is_file():
        raise Invalid("adapter_weights_missing", f"no {WEIGHTS_NAME} in {folder.name}: upload it again")
    config = json.loads((folder / CONFIG_NAME).read_bytes())
    tensors = _map_tensors(file)
    names = [name.removesuffix(_A) for name in tensors if name.endswith(_A)]
    sizes = {name: size_of(config, name.removeprefix(_PREFIX)) for name in names}
    modules = {
        name.removeprefix(_PREFIX): _low_rank(name, tensors, size.scale(is_rslora=bool(config.get("use_rslora"))))
        for name, size in sizes.items()
    }
    expected = sum(2 if low.magnitude is None else 3 for low in modules.values())
    has_magnitudes = all((low.magnitude is not None) == bool(config.get("use_dora")) for low in modules.values())
    is_as_said = all(tensors[name + _A].shape[0] == size.rank for name, size in sizes.items())
    if expected != len(tensors) or not has_magnitudes or not is_as_said:
        raise Invalid("adapter_incomplete", f"adapter {folder.name} lacks or adds weights: its config and file differ")
    return AdapterWeights(modules)


def _low_rank(name: str, tensors: dict[str, Tensor], scaling: float) -> LowRank:
    if name + _B not in tensors:
        raise Invalid("adapter_incomplete", f"the adapter has no {name}{_B}: save the whole adapter")
    return LowRank(tensors[name + _A], tensors[name + _B], tensors.get(name + _MAGNITUDE), scaling)


def _map_tensors(file: Path) -> dict[str, Tensor]:
    with file.open("rb") as stream:
        # Private to this process; writable because torch warns otherwise. The tensors keep the mapping open.
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
    begin = _LENGTH_BYTES + int.from_bytes(mapped[:_LENGTH_BYTES], "little")
    header = json.loads(mapped[_LENGTH_BYTES:begin])  # checked entry by entry when the adapter was accepted
    header.pop("__metadata__", None)
    return {name: _tensor(mapped, begin, entry) for name, entry in header.items()}


def _tensor(mapped: mmap.mmap, begin: int, entry: dict[str, Any]) -> Tensor:
    shape = entry["shape"]
    start = begin + entry["data_offsets"][0]
    return torch.frombuffer(mapped, dtype=_DTYPES[entry["dtype"]], count=math.prod(shape), offset=start).view(shape)
