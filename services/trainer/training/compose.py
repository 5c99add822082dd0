"""Makes one PEFT folder of several: their exact sum, or one that is merged to a smaller rank."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from peft.utils.merge_utils import dare_ties, ties
from safetensors.torch import load_file, save_file
from torch import Tensor

from services.trainer.training.peft_folder import CONFIG_FILE, WEIGHTS_FILE
from shared.adapter_files import BaseShapes, check_loadable, size_of
from shared.adapter_files.stack import Ranks, config_of
from shared.contracts.compose import AdapterCompose

_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"


class Part(NamedTuple):
    """A PEFT folder of plain LoRA, and the factor of its change."""

    folder: Path
    weight: float = 1.0


class Factors(NamedTuple):
    """The change of one module's weight, `weight B A`, in float32."""

    a: Tensor  # [rank, in]
    b: Tensor  # [out, rank], with its scale
    weight: float = 1.0


def stack(parts: Sequence[Part], base: BaseShapes, base_model: str, folder: Path) -> Path:
    """Write the exact sum of adapters as one: [B1 B2] [A1; A2], each B with its scale and weight; returns `folder`."""
    return _write({module: _beside(found) for module, found in _by_module(parts)}, base, base_model, folder)


def merge(parts: Sequence[Part], how: AdapterCompose, base: BaseShapes, base_model: str, folder: Path) -> Path:
    """Write adapters merged to `how.rank` by its method, module by module, on the card where there is one.

    TIES and DARE merge the changes of the weights, as PEFT's `ties_svd` and `dare_ties_svd` do: parts may differ in
    rank and modules, and the factors A and B, which mean nothing apart, are not mixed. The same parts and seed give the
    same folder.
    """
    assert how.rank is not None
    with torch.random.fork_rng():
        torch.manual_seed(how.seed)
        found = {module: _merged(factors, how, how.rank) for module, factors in _by_module(parts)}
    return _write(found, base, base_model, folder)


def _by_module(parts: Sequence[Part]) -> Iterator[tuple[str, list[Factors]]]:
    """Yield each module's factors of the parts that change it, in the order of names and of parts."""
    read = [_read(part) for part in parts]
    for module in sorted({module for changes in read for module in changes}):
        yield module, [changes[module]() for changes in read if module in changes]


def _read(part: Part) -> dict[str, Callable[[], Factors]]:
    """The factors of each module, scaled only when they are asked for."""
    check_loadable(part.folder)
    config = json.loads((part.folder / CONFIG_FILE).read_text())
    tensors = load_file(part.folder / WEIGHTS_FILE)

    def factors(module: str) -> Factors:
        a, b = (tensors[_PREFIX + module + which].float() for which in (_A, _B))
        scale = size_of(config, module).scale(is_rslora=bool(config.get("use_rslora")))
        return Factors(a, b * scale, part.weight)

    names = [name.removeprefix(_PREFIX).removesuffix(_A) for name in tensors if name.endswith(_A)]
    return {name: lambda name=name: factors(name) for name in names}  # type: ignore[misc]


def _beside(parts: Sequence[Factors]) -> Factors:
    return Factors(torch.cat([part.a for part in parts]), torch.cat([part.b * part.weight for part in parts], dim=1))


def _merged(parts: Sequence[Factors], how: AdapterCompose, rank: int) -> Factors:
    if how.method == "svd":
        return _nearest_of_sum(_beside(parts), rank)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    changes = [(part.b @ part.a).to(device) for part in parts]
    weights = torch.tensor([part.weight for part in parts], device=device)
    mixed = (ties if how.method == "ties" else dare_ties)(changes, weights, how.kept_density)
    return _nearest(mixed, rank)


def _nearest_of_sum(total: Factors, rank: int) -> Factors:
    """The nearest factors of a rank, without a matrix as large as the weight: by QR of both factors (Eckart-Young)."""
    q_b, r_b = torch.linalg.qr(total.b)
    q_a, r_a = torch.linalg.qr(total.a.T)
    inner = _nearest(r_b @ r_a.T, rank)
    return Factors(inner.a @ q_a.T, q_b @ inner.b)


def _nearest(change: Tensor, rank: int) -> Factors:
    u, s, v = torch.linalg.svd(change, full_matrices=False)
    root = s[:rank].sqrt()
    return Factors((root[:, None] * v[:rank]).cpu(), (u[:, :rank] * root).cpu())


def _write(changes: dict[str, Factors], base: BaseShapes, base_model: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    ranks: Ranks = {module: len(factors.a) for module, factors in changes.items()}
    config = config_of(ranks, base, base_model)
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tensors = {
        f"{_PREFIX}{module}{which}": tensor.contiguous()
        for module, factors in changes.items()
        for which, tensor in ((_A, factors.a), (_B, factors.b))
    }
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    return folder


def distance(one: Sequence[Part], other: Sequence[Part]) -> float:
    """Return how far apart the changes of two sums are: Frobenius norms, as a share of that of the first."""
    apart = _squares([*one, *(part._replace(weight=-part.weight) for part in other)])
    return math.sqrt(apart / max(_squares(one), 1e-30))


def _squares(parts: Sequence[Part]) -> float:
    total = 0.0
    for _, found in _by_module(parts):
        a, b = (factor.double() for factor in _beside(found)[:2])
        total += float(((b.T @ b) * (a @ a.T)).sum())
    return max(total, 0.0)
