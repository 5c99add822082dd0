"""LoRA weights on the base model: beside it, or folded into it so that a token costs no more."""

from pathlib import Path
from typing import TYPE_CHECKING

from shared.adapter_files import check_loadable
from shared.errors import Invalid
from shared.model.base import load_model
from shared.model.head import has_head, head_rows, load_classifier

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def merged_selector(
    model_folder: Path, adapter_folder: Path, dtype: str, device: str | None = None
) -> "PreTrainedModel":
    """Load the base model and merge the PEFT folder into its weights, in float32, then turn to `dtype`; eval mode.

    A folder that carries a head gives a sequence classifier, any other one a causal language model.

    Raises `Invalid` where the adapter does not load or does not fit the base model.
    """
    import torch

    if has_head(adapter_folder):
        model = load_classifier(model_folder, head_rows(adapter_folder), device)
    else:
        model = load_model(model_folder, "float32", device)
    merged = with_adapter(model, adapter_folder).merge_and_unload(safe_merge=True)
    return merged.eval().to(getattr(torch, dtype))


def with_adapter(model: "PreTrainedModel | PeftModel", adapter_folder: Path, name: str = "default") -> "PeftModel":
    """Wrap the model with an adapter, in eval mode; one that is wrapped already gets it under another name beside.

    Raises `Invalid` where the adapter does not fit the model.
    """
    from peft import PeftModel

    check_loadable(adapter_folder)
    try:
        if isinstance(model, PeftModel):
            model.load_adapter(adapter_folder, adapter_name=name, is_trainable=False)
        else:
            model = PeftModel.from_pretrained(model, adapter_folder, adapter_name=name, is_trainable=False)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise Invalid("adapter_invalid", f"the weights do not load onto this base model: {error}") from error
    return model.eval()
