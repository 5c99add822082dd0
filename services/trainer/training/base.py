"""The frozen base model of a training, as the run's settings hold it; what judges the result holds it alike."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from shared.contracts.training_settings import LoraSettings
from shared.errors import Invalid
from shared.model.base import default_device, load_model
from shared.model.head import load_classifier

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedModel


def load_base(
    folder: Path, settings: LoraSettings, *, head_rows: int = 0, device: str | None = None
) -> "PreTrainedModel":
    """Load the base model, for qlora in 4 bits, with a head of `head_rows` labels if there are any.

    On a card its weights have the settings' precision. On CPUs they have float32, and `for_training` casts the linear
    layers alone: what runs between these costs nothing in float32 there. Raises `Invalid` as `load_model` does.
    """
    device = device or default_device()
    dtype = "float32" if device == "cpu" else settings.precision
    quantization = four_bits(settings.precision) if settings.method == "qlora" else None
    if head_rows:
        return load_classifier(folder, head_rows, device, quantization, dtype)
    return load_model(folder, dtype, device, quantization)


def four_bits(precision: str) -> "BitsAndBytesConfig":
    """QLoRA's quantisation of the base model (Dettmers et al. 2023); raises `Invalid` without bitsandbytes."""
    import torch
    from transformers import BitsAndBytesConfig

    if not find_spec("bitsandbytes"):
        raise Invalid(
            "qlora_unavailable",
            "method qlora needs bitsandbytes on the trainer: in a clone, pip install '.[qlora]'; or use lora",
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, precision),
    )


def for_training(model: "PreTrainedModel", settings: LoraSettings) -> "PreTrainedModel":
    """Prepare the frozen base model: an attention with a fast backward pass, and linear weights cast once."""
    import torch

    from services.trainer.training import row_attention

    if settings.packing and row_attention.can_attend_by_rows(model):
        model.set_attn_implementation(row_attention.NAME)
    elif model.device.type == "cpu":
        model.set_attn_implementation("eager")  # the fused kernel's backward is slow on CPUs: a quarter of a step
    if settings.precision == "bfloat16" and not getattr(model, "is_quantized", False):
        for layer in model.base_model.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.to(torch.bfloat16)  # autocast would cast every weight again in each step
    return model
