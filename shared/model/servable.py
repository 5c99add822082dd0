"""What of a base model can be served, decided from its files without its weights.

The command `signalbox doctor --base` shows these findings, and the processes that load a base model refuse by them.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from shared.adapter_files.tensors import TensorSpan, read_header
from shared.errors import Invalid
from shared.model.families import EVERY, FAMILIES, NO_READER, Family, Use
from shared.model.tokens import end_token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Config = Mapping[str, Any]
_CAUSAL = ("ForCausalLM", "LMHeadModel")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_IN_FOUR_BITS = {"gptq", "awq", "bitsandbytes", "mxfp4", "compressed-tensors"}
_GIB = 1 << 30


class Finding(NamedTuple):
    """One thing about a base model, in a sentence."""

    topic: str
    says: str
    refused: frozenset[Use] = frozenset()
    """What cannot be done with the model because of it."""
    mend: str = ""
    """What to do about it."""


class BaseFiles(NamedTuple):
    """A base model's configuration, and the headers of its weights by the names of the tensors."""

    folder: Path
    config: Config
    tensors: Mapping[str, TensorSpan]

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Read a folder; raises `Invalid` where its configuration or a header cannot be read."""
        config = _read(folder / "config.json")
        if not config:
            raise no_model_folder(folder)
        headers = (read_header(file, "base_model_invalid") for file in sorted(folder.glob("*.safetensors")))
        return cls(folder, config, {name: span for header in headers for name, span in header.items()})


def no_model_folder(folder: Path) -> Invalid:
    """Make the error for a folder that holds no base model."""
    return Invalid(
        "base_model_invalid",
        f"{folder.name!r} is not a model folder: it needs config.json, tokenizer files and *.safetensors weights",
    )


def check_base(folder: Path, use: Use) -> None:
    """Raise `Invalid` where the files of a base model say that it cannot be used so."""
    refuse(file_findings(BaseFiles.of(folder)), use, folder.name)


def check_head(folder: Path) -> None:
    """Raise `Invalid` where no selector can have a linear head on a base model."""
    files = BaseFiles.of(folder)
    refuse(file_findings(files), Use.READ, folder.name)
    family = FAMILIES.get(files.config.get("model_type", ""))
    if family and not family.has_head:
        raise Invalid(
            "head_unavailable",
            f"transformers has no form of {family.name} with a head: train the selector with readout names, or light",
        )


def check_tokenizer(folder: Path, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Raise `Invalid` where a base model cannot be used with its tokenizer."""
    refuse(tokenizer_findings(folder, _read(folder / "config.json"), tokenizer), Use.READ, folder.name)


def refuse(findings: Collection[Finding], use: Use, name: str) -> None:
    """Raise `Invalid` with the first finding that forbids a use."""
    for finding in findings:
        if use in finding.refused:
            raise Invalid("base_model_unsupported", f"base model {name!r}: {finding.says}; {finding.mend}")


def file_findings(files: BaseFiles) -> list[Finding]:
    """Return what a base model's configuration and headers say."""
    return [_family(files.config), *_program(files.config), _weights(files), _embeddings(files.config), _context(files)]


def tokenizer_findings(folder: Path, config: Config, tokenizer: "PreTrainedTokenizerBase") -> list[Finding]:
    """Return what a tokenizer says beside its model's configuration."""
    return [_vocabulary(config, tokenizer), _ends(folder, tokenizer)]


def _family(config: Config) -> Finding:
    kind = str(config.get("model_type", ""))
    architecture = next(iter(config.get("architectures") or []), "")
    if why := _no_causal_model(config, architecture):
        return Finding("family", f"{architecture or kind}: {why}", EVERY, "take a causal language model (…ForCausalLM)")
    if "text_config" in config:
        return Finding(
            "family", f"{architecture or kind} reads more than texts, and its language model lies inside it", EVERY,
            "save its language model as one of its own (Gemma3ForCausalLM.from_pretrained(…), say), and serve that",
        )  # fmt: skip
    if kind not in FAMILIES and config.get("auto_map"):
        return Finding(
            "family", f"{kind} brings a program of its own (auto_map), which is never run", EVERY,
            "take a model of a family that transformers knows",
        )  # fmt: skip
    return _known_family(kind, config)


def _known_family(kind: str, config: Config) -> Finding:
    family = FAMILIES.get(kind) or Family(kind, NO_READER)
    named = f"{family.name} ({kind})" if kind in FAMILIES else kind
    if Use.ENGINE in family.uses:
        head = "" if family.has_head else "; a selector on it reads out names, it has no form with a head"
        return Finding("family", f"{named}: served by our engine and by a vLLM server{head}")
    why = "a mixture of experts" if _has_experts(config) else "a family that our engine is not tested with"
    reads = "with adapters on its attention" if Use.READ in family.uses else "trainings and selectors do not read it"
    return Finding(
        "family", f"{named}, {why}: a vLLM server alone serves it, {reads}", EVERY - family.uses,
        "set SIGNALBOX_ENGINE=vllm, or take a dense model of a family in docs/base-models.md",
    )  # fmt: skip


def _no_causal_model(config: Config, architecture: str) -> str:
    if config.get("is_encoder_decoder"):
        return "an encoder with a decoder is not served"
    if config.get("is_causal") is False or config.get("use_bidirectional_attention"):
        return "its tokens attend to later ones, so it generates no text"
    if architecture and not architecture.endswith(_CAUSAL) and "text_config" not in config:
        return "it is no causal language model"
    return ""


def _has_experts(config: Config) -> bool:
    return any((config.get(name) or 0) > 1 for name in _EXPERTS)


def _program(config: Config) -> Iterator[Finding]:
    if config.get("auto_map") and config.get("model_type") in FAMILIES:
        kind = config["model_type"]
        yield Finding("program", f"the one that it brings (auto_map) is never run: transformers' own {kind} is")


def _weights(files: BaseFiles) -> Finding:
    if not files.tensors:
        return Finding("weights", f"no *.safetensors files{_other_weights(files.folder)}", EVERY, _how_to_save(files))
    if method := quantisation(files.config):
        return Finding(
            "weights", f"{method}: a vLLM server alone serves it, trainings and selectors do not read it",
            EVERY - NO_READER,
            "take the model that it was made of, in bfloat16 or float32, or set SIGNALBOX_ENGINE=vllm",
        )  # fmt: skip
    count = sum(prod(span.shape) for span in files.tensors.values())
    whole, half = (f"{count * size / _GIB:.1f} GiB" for size in (4, 2))
    return Finding(
        "weights", f"{count / 1e6:,.0f} million numbers: {whole} in float32, as trainings load them; "
        f"{half} in bfloat16, as workers do where the hardware multiplies it",
    )  # fmt: skip


def quantisation(config: Config) -> str:
    """Return what the weights are quantised to, such as `4-bit weights (gptq)`; empty where they are not."""
    found = config.get("quantization_config")
    if not found:
        return ""
    method = str(found.get("quant_method") or "of an unknown kind")
    bits = 8 if found.get("load_in_8bit") else found.get("bits") or found.get("w_bit")
    bits = bits or (4 if method in _IN_FOUR_BITS else 0)
    return f"{bits}-bit weights ({method})" if bits else f"{method} weights"


def _other_weights(folder: Path) -> str:
    for kind, name in (("*.gguf", "a GGUF file"), ("*.bin", "pickles, which are never read")):
        if any(folder.glob(kind)):
            return f", but {name}"
    return ""


def _how_to_save(files: BaseFiles) -> str:
    gguf = next(iter(files.folder.glob("*.gguf")), None)
    how = f"gguf_file={gguf.name!r}" if gguf else "…"
    return f"save it anew: AutoModelForCausalLM.from_pretrained(FOLDER, {how}).save_pretrained(NEW), the tokenizer too"


def _embeddings(config: Config) -> Finding:
    if config.get("tie_word_embeddings"):
        return Finding(
            "embeddings", "tied: the output layer is the input's, and adapters cannot change it (no lm_head in "
            "target_modules)",
        )  # fmt: skip
    return Finding("embeddings", "not tied: an adapter may change lm_head, never embed_tokens")


def _context(files: BaseFiles) -> Finding:
    trained, usable = files.config.get("max_position_embeddings"), context_length(files.config)
    if not trained:
        return Finding("context", "the configuration names no length: only the settings bound a prompt")
    if usable and usable < trained:
        return Finding(
            "context", f"{usable:,} tokens with our engine, as before longrope stretches it; {trained:,} with a vLLM "
            "server",
        )  # fmt: skip
    return Finding("context", f"{trained:,} tokens")


def context_length(config: Config) -> int | None:
    """Return how many tokens our engine may take; None where the configuration names no length.

    longrope turns all positions in another way once one is beyond its original length, so one long row would change
    what others of its batch have in the cache.
    """
    trained: int | None = config.get("max_position_embeddings")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type")) not in ("longrope", "su") or not trained:
        return trained
    return min(trained, rope.get("original_max_position_embeddings") or config["original_max_position_embeddings"])


def _vocabulary(config: Config, tokenizer: "PreTrainedTokenizerBase") -> Finding:
    rows, tokens = int(config.get("vocab_size") or 0), max(tokenizer.get_vocab().values()) + 1
    if rows and tokens > rows:
        return Finding(
            "vocabulary", f"{tokens:,} tokens, but the embedding has {rows:,} rows", EVERY,
            "take the tokenizer that belongs to these weights, or resize_token_embeddings and save the model anew",
        )  # fmt: skip
    more = f" ({rows:,} rows of the embedding)" if rows > tokens else ""
    return Finding("vocabulary", f"{tokens:,} tokens{more}")


def _ends(folder: Path, tokenizer: "PreTrainedTokenizerBase") -> Finding:
    found = sorted(end_token_ids(tokenizer, folder))
    if tokenizer.eos_token_id is None:
        return Finding(
            "end tokens", "the tokenizer names no end-of-sequence token", EVERY,
            "name one as eos_token in tokenizer_config.json",
        )  # fmt: skip
    return Finding("end tokens", ", ".join(f"{tokenizer.convert_ids_to_tokens(one)} ({one})" for one in found))


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
