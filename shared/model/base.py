"""The base model: finds, converts, identifies and loads it."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import Invalid, SignalboxError, Unavailable
from shared.model.families import Use
from shared.model.servable import check_base, no_model_folder
from shared.model.smollm2 import convert_smollm2
from shared.settings import Settings

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase

SMOLLM2 = "smollm2"
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)
"""What transformers raises for files that it can make nothing of."""
HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
_DIGEST_FILE = ".signalbox-digest.json"
_VOLATILE_CONFIG = {"transformers_version", "_name_or_path", "_model_name_or_path"}


def resolve_base_model(settings: Settings) -> Path:
    """Return the local folder of the base model, converting or downloading it the first time.

    Raises `Invalid` for a folder that holds no model, or one that the settings' engine cannot serve, and `Unavailable`
    where it cannot be downloaded now.
    """
    folder = _folder_of(settings)
    if settings.base_model == SMOLLM2:
        folder = convert_smollm2(folder)
    elif not folder.is_dir():
        folder = download_from_hub(settings.base_model)
    check_base(folder, use_of(settings))
    return folder


def use_of(settings: Settings) -> Use:
    """Return what the settings' engine does with a base model; without one, selectors and trainings read it alone."""
    return Use.READ if settings.engine == "echo" else Use(settings.engine)


def local_folder(settings: Settings) -> Path | None:
    """Return the base model's folder where it is on this machine already, None where it would have to be brought."""
    folder = _folder_of(settings)
    return folder if folder.is_dir() else _in_hub_cache(settings.base_model)


def _in_hub_cache(name: str) -> Path | None:
    if find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None


def _folder_of(settings: Settings) -> Path:
    if settings.base_model == SMOLLM2:
        return settings.cache_dir / "base" / SMOLLM2
    return Path(settings.base_model).expanduser()


def _checked(folder: Path) -> Path:
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise no_model_folder(folder)
    return folder


def download_from_hub(name: str, folder: Path | None = None) -> Path:
    """Download a model, by default into the hub's own cache; raises as `resolve_base_model` does."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        return _checked(Path(snapshot_download(name, allow_patterns=HUB_FILES, local_dir=folder)))
    except (HFValidationError, RepositoryNotFoundError) as error:
        raise Invalid(
            "base_model_unknown",
            f"{name!r} is neither a local folder nor a model on the hub: set SIGNALBOX_BASE_MODEL to one of them",
        ) from error
    except SignalboxError:
        raise
    except Exception as error:  # without a network, the hub client raises a dozen types of three libraries
        raise Unavailable(
            "base_model_unavailable",
            f"the model {name!r} could not be downloaded; check the network, or set SIGNALBOX_BASE_MODEL to a folder",
        ) from error


def base_model_id(folder: Path) -> str:
    """Return the pin of a model folder: 16 hex digits of the SHA-256 over configuration, weights and tokenizer.

    Equal weights give an equal pin on every machine; the digest of each file is cached beside it, by size and time.
    """
    digest = hashlib.sha256(_stable_config(folder / "config.json"))
    known = _known_digests(folder)
    for file in _pinned_files(folder):
        digest.update(f"{file.name}:{known[file.name]['sha256']}\n".encode())
    return digest.hexdigest()[:16]


def _pinned_files(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob("*.safetensors"))
    if (folder / "tokenizer.json").is_file():
        yield folder / "tokenizer.json"


def _stable_config(file: Path) -> bytes:
    config = json.loads(file.read_bytes())
    # This file also holds the library's version, which is no property of the model.
    return json.dumps({k: v for k, v in config.items() if k not in _VOLATILE_CONFIG}, sort_keys=True).encode()


def _known_digests(folder: Path) -> dict[str, dict[str, Any]]:
    cache = folder / _DIGEST_FILE
    before = _read_json(cache)
    after = {file.name: _file_digest(file, before.get(file.name)) for file in _pinned_files(folder)}
    if after != before:
        _write_quietly(cache, json.dumps(after))
    return after


def _file_digest(file: Path, known: dict[str, Any] | None) -> dict[str, Any]:
    stat = file.stat()
    if known and (known["size"], known["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns):
        return known
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": sha256}


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return content


def _write_quietly(file: Path, text: str) -> None:
    part = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        part.write_text(text)
        part.replace(file)
    except OSError:  # in a read-only folder the digest is computed again, and no partial file is left
        with contextlib.suppress(OSError):
            part.unlink()


def load_model(
    folder: Path, dtype: str, device: str | None = None, quantization: "BitsAndBytesConfig | None" = None
) -> "PreTrainedModel":
    """Load the causal language model of a folder in eval mode, frozen; `dtype` is `float32` or `bfloat16`.

    By default `device` is the accelerator where there is one. Raises `Invalid` where the folder does not load, or no
    training and no selector can read it.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    check_base(folder, Use.READ)
    disable_progress_bar()  # services log JSON lines
    device = device or default_device()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            quantization_config=quantization,
            device_map=device_map(device),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except UNREADABLE as error:
        raise Invalid("base_model_invalid", f"the model in {folder.name!r} does not load: {error}") from error
    model.requires_grad_(False)
    return placed(model.eval(), device)


def device_map(device: str) -> "dict[str, torch.device] | None":
    """Return what makes `from_pretrained` put each weight onto the device as it is read, without a model on the host.

    None on CPUs: see `placed`.
    """
    import torch

    found = torch.device(device)
    if found.type == "cpu":
        return None
    if found.type == "cuda" and found.index is None:  # transformers compares it with the Trainer's, which has a number
        found = torch.device("cuda", torch.cuda.current_device())
    return {"": found}


def placed(model: "PreTrainedModel", device: str) -> "PreTrainedModel":
    """Return the model on the device, where `device_map` has not put it there; weights in 4 bits cannot be moved."""
    return model if device_map(device) else model.to(device)


def default_device() -> str:
    """Return the accelerator where there is one, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def empty_model(folder: Path) -> "PreTrainedModel":
    """Return the causal language model of a folder without its weights; raises `Invalid` where it has none."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    check_base(folder, Use.READ)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except UNREADABLE as error:
        raise Invalid("base_model_invalid", f"the model in {folder.name!r} does not load: {error}") from error


def filled_model(
    empty: "PreTrainedModel", weights: "Mapping[str, torch.Tensor]", dtype: "torch.dtype", device: str
) -> "PreTrainedModel":
    """Return the model with these weights, given by full name, without a copy; they are on `device`, in `dtype`."""
    import torch
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    # The library would bring weights to the CPU, or make room for them on a card twice: it gets others without memory.
    stand_ins = {name: torch.zeros((), dtype=dtype).expand(weight.shape) for name, weight in weights.items()}
    model = type(empty).from_pretrained(None, config=empty.config, state_dict=stand_ins, dtype=dtype)
    for name, parameter in model.named_parameters():
        parameter.data = weights[name].to(parameter.dtype)
    return model.to(device)


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Load the tokenizer of a model folder; raises `Invalid` where it does not load."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except UNREADABLE as error:
        raise Invalid("base_model_invalid", f"the tokenizer in {folder.name!r} does not load: {error}") from error
