"""PEFT folders of the trainer: two files, without any path of the machine that made them."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.trainer.training.base import for_training
from shared.adapter_files import check_loadable
from shared.contracts.labels import Label
from shared.contracts.training_settings import LoraSettings
from shared.model.head import HEAD_TASK, HEAD_WEIGHT

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PISSA = "pissa"
TRAINED, FROZEN = "default", "below"
"""PEFT's names of the adapter that is trained and of the one that it is trained over."""
Weights = dict[str, "Tensor"]


def with_lora(
    model: "PreTrainedModel", config: LoraSettings, start_from: Path | None = None, on: Path | None = None
) -> "PeftModel":
    """Return the model with LoRA weights in train mode; raises ValueError from PEFT.

    The weights are random by the run's seed, or those of the PEFT folder `start_from`, which then sets their shape.
    Those of the PEFT folder `on` are active beside them, and frozen.
    """
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model

    torch.manual_seed(config.seed)
    for_training(model, config)
    if start_from is not None:
        check_loadable(start_from)
        return _in_float32(PeftModel.from_pretrained(model, start_from, is_trainable=True)).train()
    targets: Any = config.target_modules if isinstance(config.target_modules, str) else list(config.target_modules)
    lora = LoraConfig(
        task_type=HEAD_TASK if is_classifier(model) else "CAUSAL_LM",
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets,
        layers_to_transform=_top_layers(model, config.top_layers),
        init_lora_weights=PISSA if config.method == PISSA else True,
        use_rslora=config.method == "rslora",
        use_dora=config.method == "dora",
    )
    trained = _in_float32(get_peft_model(model, lora)).train()
    return _over(trained, on) if on else trained


def _over(model: "PeftModel", on: Path) -> "PeftModel":
    """Add a frozen adapter beside the one that is trained.

    It stays a branch of its own: merged into weights of bfloat16, a tenth or more of its change would be rounded away
    (decision 55).
    """
    from torch import nn

    check_loadable(on)
    model.load_adapter(on, adapter_name=FROZEN, is_trainable=True)  # frozen below; False would end the train mode
    model.base_model.set_adapter([TRAINED, FROZEN])  # resuming loads a checkpoint into the first
    for name, weight in model.named_parameters():
        if f".{FROZEN}." in name:
            weight.requires_grad_(requires_grad=False)
    for module in model.modules():
        if FROZEN in getattr(module, "lora_dropout", ()):
            module.lora_dropout[FROZEN] = nn.Identity()
    return model


def _in_float32(model: "PeftModel") -> "PeftModel":
    """Give what is trained float32: PEFT copies a head in the base model's type, which rounds small steps away."""
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    return model


def is_classifier(model: "PreTrainedModel | PeftModel") -> bool:
    """Whether the model scores labels with a linear head, and not tokens of the vocabulary."""
    return hasattr(model, "score")  # PEFT looks up unknown attributes in the model that it wraps


def _top_layers(model: "PreTrainedModel", count: int | None) -> list[int] | None:
    layers = model.config.num_hidden_layers
    return None if count is None or count >= layers else list(range(layers - count, layers))


def rearrange_head(weights: Path, old: Sequence[Label], labels: Sequence[Label], folder: Path) -> Path:
    """Write a copy of a selector's PEFT folder with its head in the order of `labels`; rows of new labels are zeros.

    A row of zeros scores every text alike, as an untrained row should.
    """
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(weights / WEIGHTS_FILE)
    known = tensors[HEAD_WEIGHT]
    head = torch.zeros(len(labels), known.shape[1], dtype=known.dtype)
    for row, label in enumerate(labels):
        if label in old:
            head[row] = known[old.index(label)]
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(weights / CONFIG_FILE, folder / CONFIG_FILE)
    save_file(tensors | {HEAD_WEIGHT: head}, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    return folder


def initial_weights(model: "PeftModel") -> Weights:
    """Return a copy of the weights that PiSSA moved from the base model into the LoRA; empty for other methods."""
    from peft import get_peft_model_state_dict

    if model.peft_config[TRAINED].init_lora_weights != PISSA:
        return {}
    return {name: tensor.detach().clone().cpu() for name, tensor in get_peft_model_state_dict(model).items()}


def save_adapter(model: "PeftModel", folder: Path, base_id: str, initial: Weights | None = None) -> Path:
    """Write only `adapter_config.json` and `adapter_model.safetensors`; they name the base model by its pin.

    With PiSSA's `initial` weights the result is plain LoRA on the untouched base model.
    """
    # "auto" would look the vocabulary size up on the hub; LoRA never changes the embedding here.
    model.save_pretrained(folder, save_embedding_layers=False, selected_adapters=[TRAINED])
    (folder / "README.md").unlink(missing_ok=True)
    file = folder / CONFIG_FILE
    config = json.loads(file.read_text())
    config["base_model_name_or_path"] = base_id
    config["target_modules"] = sorted(config["target_modules"])  # a set in PEFT: its order differs from run to run
    if initial:
        _take_off(initial, folder)
        config |= {"init_lora_weights": True, "r": 2 * config["r"], "lora_alpha": 2 * config["lora_alpha"]}
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return folder


def _take_off(initial: Weights, folder: Path) -> None:
    """Turn PiSSA weights into their change: BA - B'A' = [B, -B'] [A; A'] (Meng et al. 2024, appendix C)."""
    import torch
    from safetensors.torch import load_file, save_file

    # PEFT's own conversion drops every other tensor, the selector's head among them.
    tensors = load_file(folder / WEIGHTS_FILE)
    for name, before in initial.items():
        if "lora_A" in name:
            tensors[name] = torch.cat([tensors[name], before], dim=0)
        elif "lora_B" in name:
            tensors[name] = torch.cat([tensors[name], -before], dim=1)
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
