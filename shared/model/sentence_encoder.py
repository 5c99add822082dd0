"""A sentence encoder in the folder format of `sentence-transformers`, read with plain transformers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import Invalid
from shared.model.features import Floats, normalised

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class SentenceEncoder:
    """An encoder that takes the mean over a text's tokens, including its start and end token."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    max_tokens: int
    is_normalised: bool = False

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text, truncated to `max_tokens`."""
        # The name of a control token in a text is text, as everywhere.
        options = {"truncation": True, "max_length": self.max_tokens, "split_special_tokens": True}
        return [self.tokenizer(text, **options)["input_ids"] for text in texts]

    def finish(self, means: Floats) -> Floats:
        """The vectors after the encoder's last module, which may normalise them."""
        return normalised(means) if self.is_normalised else means


def load_encoder(folder: Path, max_tokens: int) -> SentenceEncoder:
    """Load an encoder that reads up to `max_tokens` of a text; raises `Invalid` where it fails or takes no means."""
    modules = [str(module["type"]).rsplit(".", 1)[-1] for module in _read(folder / "modules.json", [])]
    _check_modules(folder, modules)
    return replace(load_token_encoder(folder, max_tokens), is_normalised="Normalize" in modules)


def load_token_encoder(folder: Path, max_tokens: int) -> SentenceEncoder:
    """Load an encoder for its token vectors, without regard to its pooling; raises `Invalid` where it does not load."""
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model = AutoModel.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
        ).eval()
    except (OSError, ValueError) as error:
        raise Invalid("encoder_invalid", f"the sentence encoder in {folder.name!r} does not load: {error}") from error
    own = _read(folder / "sentence_bert_config.json", {}).get("max_seq_length") or max_tokens
    room = min(max_tokens, own, tokenizer.model_max_length, model.config.max_position_embeddings)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return SentenceEncoder(model.to(device), tokenizer, room)


def _check_modules(folder: Path, modules: Sequence[str]) -> None:
    unknown = set(modules) - {"Transformer", "Pooling", "Normalize"}
    if unknown or not _read(folder / "1_Pooling" / "config.json", {}).get("pooling_mode_mean_tokens", True):
        what = ", ".join(sorted(unknown)) or "another pooling"
        raise Invalid("encoder_invalid", f"the encoder in {folder.name!r} has {what}; name one that takes means")


def _read(file: Path, missing: Any) -> Any:
    return json.loads(file.read_text()) if file.is_file() else missing
