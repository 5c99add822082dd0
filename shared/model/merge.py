"""A selector's LoRA weights folded into the base: no adapter to switch, no extra multiplication per token."""

from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import Invalid
from shared.model.base import load_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def merged_selector(
    model_folder: Path, adapter_folder: Path, dtype: str, device: str | None = None
) -> "PreTrainedModel":
    """Load the base model and merge the PEFT folder into its weights, in float32, then turn to `dtype`; eval mode.

    Raises `Invalid` where the adapter does not load or does not fit the base model.
    """
    import torch
    from peft import PeftModel

    base = load_model(model_folder, "float32", device)
    try:
        model = PeftModel.from_pretrained(base, adapter_folder, is_trainable=False)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise Invalid("selector_invalid", f"the selector weights do not load onto this base model: {error}") from error
    merged = model.merge_and_unload(safe_merge=True)
    return merged.eval().to(getattr(torch, dtype))
