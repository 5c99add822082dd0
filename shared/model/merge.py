"""Applies LoRA weights to the base model: as an adapter, or merged, so that a token costs no extra time."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from shared.adapter_files import check_loadable
from shared.errors import Invalid
from shared.model.base import default_device, empty_model, filled_model, load_model
from shared.model.features import tensor_names
from shared.model.head import HEAD_PARAMETER, empty_classifier, has_head, head_rows, load_classifier
from shared.model.low_rank import SelectorLora, read_lora

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel


class BaseWeights:
    """A base model's tensors, read one at a time; selectors loaded one after the other share unchanged tensors.

    They are merged on the CPU, so that every machine gets the same weights, and lie on `device`.
    """

    def __init__(self, folder: Path, device: str | None = None) -> None:
        """By default `device` is the accelerator where there is one."""
        self.folder = folder
        self.device = device or default_device()
        self.files = {name: file for file, name in tensor_names(folder)}
        self._kept: dict[str, Tensor] = {}

    def merged(self, names: Iterable[str], lora: SelectorLora, dtype: "torch.dtype") -> "dict[str, Tensor]":
        """Return tensors in `dtype`; those that the LoRA changes are merged in float32, the others are shared."""
        found = {name: self._merged(name, lora, dtype) for name in names}
        self._kept = {name: tensor for name, tensor in found.items() if name not in lora.weights}
        return found

    def _merged(self, name: str, lora: SelectorLora, dtype: "torch.dtype") -> "Tensor":
        if name in lora.weights:
            return lora.weights[name].merged(self._read(name)).to(dtype).to(self.device)
        kept = self._kept.get(name)
        return kept if kept is not None and kept.dtype == dtype else self._read(name).to(dtype).to(self.device)

    def _read(self, name: str) -> "Tensor":
        from safetensors import safe_open

        # Open the file for each tensor: its mapped pages count as memory until all tensors read from it are freed.
        with safe_open(self.files[name], framework="pt") as tensors:
            tensor: Tensor = tensors.get_tensor(name)
        return tensor


def merged_selector(
    model_folder: Path, adapter_folder: Path, dtype: str, device: str | None = None, base: BaseWeights | None = None
) -> "PreTrainedModel":
    """Load the base model, merge the PEFT folder into its weights in float32, and convert to `dtype`; in eval mode.

    A folder with a head gives a sequence classifier, any other folder a causal language model. Models that are loaded
    with the same `base`, on its device, share the weights that none of their LoRAs changes.

    Raises `Invalid` where the adapter does not load or does not fit the base model.
    """
    import torch

    check_loadable(adapter_folder)
    base = base or BaseWeights(model_folder, device)
    lora = read_lora(adapter_folder, base.files)
    model = _assembled(base, adapter_folder, lora, getattr(torch, dtype)) if lora else None
    if model is None:
        model = _merged_by_peft(model_folder, adapter_folder).to(getattr(torch, dtype))
    return model.requires_grad_(False).eval().to(base.device)


def _assembled(
    base: BaseWeights, adapter_folder: Path, lora: SelectorLora, dtype: "torch.dtype"
) -> "PreTrainedModel | None":
    """Build the model from single tensors, without a second copy; None where its files use other tensor names."""
    if has_head(adapter_folder):
        model = empty_classifier(base.folder, head_rows(adapter_folder))
    else:
        model = empty_model(base.folder)
    names = {name for name, _ in model.named_parameters()} - {HEAD_PARAMETER}
    if not names <= base.files.keys():
        return None
    weights = base.merged(sorted(names), lora, dtype)
    if lora.head is not None:
        weights[HEAD_PARAMETER] = lora.head.to(dtype).to(base.device)
    return filled_model(model, weights, dtype, base.device)


def _merged_by_peft(model_folder: Path, adapter_folder: Path) -> "PreTrainedModel":
    """Let PEFT merge any kind of adapter; this takes the memory of two or three copies of the model."""
    if has_head(adapter_folder):
        model = load_classifier(model_folder, head_rows(adapter_folder), "cpu")
    else:
        model = load_model(model_folder, "float32", "cpu")
    merged: PreTrainedModel = with_adapter(model, adapter_folder).merge_and_unload(safe_merge=True)
    return merged


def with_adapter(model: "PreTrainedModel | PeftModel", adapter_folder: Path, name: str = "default") -> "PeftModel":
    """Add an adapter to the model, in eval mode; a wrapped model gets it as a further adapter called `name`.

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
        raise Invalid(
            "adapter_invalid", f"the weights do not load onto this base model ({error}): train them on it"
        ) from error
    return model.eval()
