"""A sentence encoder in the folder format of `sentence-transformers`, read with plain transformers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.trainer.data.kmeans import Floats, normalised
from shared.errors import Invalid

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class SentenceEncoder:
    """An encoder that takes the mean over a text's tokens, its start and end token among them."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    max_tokens: int
    is_normalised: bool = False

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, its end cut off where it is too long."""
        # A control token's name in a text stays text, as everywhere.
        how = {"truncation": True, "max_length": self.max_tokens, "split_special_tokens": True}
        return [self.tokenizer(text, **how)["input_ids"] for text in texts]

    def finish(self, means: Floats) -> Floats:
        """The vectors as the encoder's own modules leave them."""
        return normalised(means) if self.is_normalised else means


def load_encoder(folder: Path, max_tokens: int) -> SentenceEncoder:
    """Load an encoder of at most `max_tokens` a text; raises `Invalid` where it does not load or takes no means."""
    modules = [str(module["type"]).rsplit(".", 1)[-1] for module in _read(folder / "modules.json", [])]
    _check_modules(folder, modules)
    return replace(load_token_encoder(folder, max_tokens), is_normalised="Normalize" in modules)


def load_token_encoder(folder: Path, max_tokens: int) -> SentenceEncoder:
    """Load an encoder whose tokens alone are looked at, however it pools them; raises `Invalid` as `load_encoder`."""
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
        raise Invalid("encoder_invalid", f"the encoder in {folder.name!r} has {what}; one that takes means is needed")


def _read(file: Path, missing: Any) -> Any:
    return json.loads(file.read_text()) if file.is_file() else missing
