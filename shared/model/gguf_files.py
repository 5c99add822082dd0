"""A base model in a GGUF file: its configuration, headers and tokenizer, without its weights."""

from pathlib import Path
from typing import TYPE_CHECKING

from shared.adapter_files.tensors import TensorSpan
from shared.model.servable import BaseFiles

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def gguf_base(file: Path) -> tuple[BaseFiles, "PreTrainedTokenizerBase"]:
    """Return what a conversion of the file would write, but for the weights."""
    from gguf import GGUFReader
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
    found = GGUFReader(file).tensors
    tensors = {one.name: TensorSpan(one.tensor_type.name, tuple(map(int, one.shape)), 0, 0) for one in found}
    return BaseFiles(file.parent, config.to_dict(), tensors), tokenizer
