"""Adapters whose modules differ in rank or alpha, written as a vLLM server reads them: it knows one of each."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME, size_of

_NAME = "uniform"
_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"
_PATTERNS = ("rank_pattern", "alpha_pattern")


def uniform_folder(folder: Path) -> Path:
    """Return the folder itself, or one in it that is equal to it without patterns; it is written at the first call.

    Smaller ranks are padded with zeros, and B takes the difference in scale.
    """
    config: dict[str, Any] = json.loads((folder / CONFIG_NAME).read_bytes())
    if not any(config.get(pattern) for pattern in _PATTERNS):
        return folder
    target = folder / _NAME
    if not target.is_dir():
        part = Path(tempfile.mkdtemp(dir=folder, prefix=".part-"))
        try:
            _write(config, load_file(folder / WEIGHTS_NAME), part)
            _open_like(folder, part)
            part.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another worker has written the same
                raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return target


def _write(config: dict[str, Any], tensors: dict[str, Tensor], folder: Path) -> None:
    modules = [name.removesuffix(_A) for name in tensors if name.endswith(_A)]
    is_rslora = bool(config.get("use_rslora"))
    rank = max(tensors[module + _A].shape[0] for module in modules)
    for module in modules:
        scale = size_of(config, module.removeprefix(_PREFIX)).scale(is_rslora=is_rslora)
        tensors[module + _A] = _padded(tensors[module + _A], 0, rank)
        tensors[module + _B] = _padded(tensors[module + _B].float() * scale, 1, rank)
    config = {**config, "r": rank, "lora_alpha": rank, "use_rslora": False} | {pattern: {} for pattern in _PATTERNS}
    save_file(tensors, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    (folder / CONFIG_NAME).write_text(json.dumps(config))


def _padded(tensor: Tensor, axis: int, size: int) -> Tensor:
    rows, columns = tensor.shape
    added = tensor.new_zeros((size - rows, columns) if axis == 0 else (rows, size - columns))
    return torch.cat([tensor, added], dim=axis)


def _open_like(folder: Path, part: Path) -> None:
    """Let those read the copy who may read the folder: the server may run as another user."""
    part.chmod(folder.stat().st_mode & 0o777)
    for file in part.iterdir():
        file.chmod((folder / WEIGHTS_NAME).stat().st_mode & 0o777)
