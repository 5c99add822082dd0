"""The manifest of a base model, read from its folder without loading the weights."""

import hashlib
import json
from collections import Counter
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from shared.adapter_files import BaseShapes
from shared.adapter_files.tensors import read_header
from shared.contracts.manifests import BaseModelManifest
from shared.contracts.times import utc_now
from shared.errors import Invalid
from shared.model.base import UNREADABLE, base_model_id, load_tokenizer
from shared.model.servable import check_tokenizer, quantisation
from shared.model.tokens import control_names, end_token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def base_manifest(folder: Path, name: str, *, renders_jinja: bool = True) -> BaseModelManifest:
    """Return the manifest of the model in `folder`; `name` is the operator's name for it.

    A name that is a path is shortened to its last part. Raises `Invalid` for a folder that holds no model, or a
    tokenizer that does not fit it.
    """
    from shared.prompts.bound import BasePrompts

    config, tokenizer = _config(folder), load_tokenizer(folder)
    check_tokenizer(folder, tokenizer)
    return BaseModelManifest(
        id=base_model_id(folder),
        name=Path(name).name if Path(name).expanduser().is_dir() else name,
        architecture=next(iter(config.architectures or []), ""),
        shapes=_shapes(folder, config),
        context_length=int(getattr(config.get_text_config(), "max_position_embeddings", None) or 0),
        chat_template=template_digest(tokenizer),
        end_tokens=tuple(sorted(end_token_ids(tokenizer))),
        vocabulary=vocabulary_digest(tokenizer),
        dtype=stored_dtype(folder),
        control_tokens=tuple(sorted(control_names(tokenizer))),
        usual_template=BasePrompts(tokenizer, folder, renders_jinja=renders_jinja).usual,
        weight_bytes=weight_bytes(folder),
        vocabulary_size=int(getattr(config.get_text_config(), "vocab_size", None) or 0),
        created_at=utc_now(),
    )


def _shapes(folder: Path, config: "PreTrainedConfig") -> dict[str, tuple[int, int]]:
    """Return the linear modules by name: (out, in); quantised weights are stored in other shapes than they have."""
    if not quantisation(config.to_dict()):
        return dict(BaseShapes.from_folder(folder).modules)
    import torch
    from transformers import AutoModelForCausalLM

    del config.quantization_config
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    modules = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    return {name: (module.out_features, module.in_features) for name, module in modules.items()}


def _config(folder: Path) -> "PreTrainedConfig":
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except UNREADABLE as error:
        raise Invalid("base_model_invalid", f"the model in {folder.name!r} does not load: {error}") from error


def template_digest(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return the SHA-256 of the chat template's text (of all as JSON where there are several); empty without one."""
    template = tokenizer.chat_template
    if not template:
        return ""
    text = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def vocabulary_digest(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return the SHA-256 over the vocabulary: JSON lines `[id, token]` in the order of ids, added tokens included."""
    digest = hashlib.sha256()
    for token, number in sorted(tokenizer.get_vocab().items(), key=lambda item: (item[1], item[0])):
        digest.update(f"{json.dumps([number, token])}\n".encode())
    return digest.hexdigest()


def weight_bytes(folder: Path) -> int:
    """Return the bytes of the weights where they serve: floating-point numbers of four bytes become bfloat16."""
    headers = (read_header(file, "base_model_invalid") for file in sorted(folder.glob("*.safetensors")))
    spans = (span for header in headers for span in header.values())
    return sum(2 * prod(span.shape) if span.dtype in _DTYPES else span.end - span.start for span in spans)


def stored_dtype(folder: Path) -> str:
    """Return torch's name of the type that most tensors of the weight files have."""
    files = sorted(folder.glob("*.safetensors"))
    counts = Counter(span.dtype for file in files for span in read_header(file, "base_model_invalid").values())
    (dtype, _), *_ = counts.most_common(1)
    return _DTYPES.get(dtype, dtype.lower())
