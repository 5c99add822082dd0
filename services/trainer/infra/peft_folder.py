"""PEFT folders as they leave the trainer: two files, and no path of the machine that made them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.trainer.infra.config import LoraConfigSettings

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"


def with_lora(model: "PreTrainedModel", config: LoraConfigSettings, start_from: Path | None = None) -> "PeftModel":
    """Return the model with LoRA weights in train mode; raises ValueError from PEFT.

    They are fresh, drawn by the run's seed, or those of the PEFT folder `start_from`, whose shape then rules.
    """
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model

    torch.manual_seed(config.seed)
    _prepare(model, config.precision)
    if start_from is not None:
        return PeftModel.from_pretrained(model, start_from, is_trainable=True).train()
    targets: Any = config.target_modules if isinstance(config.target_modules, str) else list(config.target_modules)
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets,
        layers_to_transform=_top_layers(model, config.top_layers),
        use_rslora=config.method == "rslora",
        use_dora=config.method == "dora",
    )
    return get_peft_model(model, lora).train()


def _prepare(model: "PreTrainedModel", precision: str) -> None:
    """Fit the frozen base to training: attention fast in both directions, linear weights cast once and for all."""
    import torch

    if model.device.type == "cpu":
        model.set_attn_implementation("eager")  # the fused kernel's backward is slow on CPUs: a quarter of a step
    if precision == "bfloat16":
        for layer in model.base_model.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.to(torch.bfloat16)  # autocast would cast every weight anew in each step


def _top_layers(model: "PreTrainedModel", count: int | None) -> list[int] | None:
    layers = model.config.num_hidden_layers
    return None if count is None or count >= layers else list(range(layers - count, layers))


def save_adapter(model: "PeftModel", folder: Path, base_id: str) -> Path:
    """Write `adapter_config.json` and `adapter_model.safetensors`, nothing else; the base model goes by its pin."""
    # "auto" would ask the hub whether the vocabulary grew; LoRA here never touches the embedding.
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    file = folder / CONFIG_FILE
    config = json.loads(file.read_text())
    config["base_model_name_or_path"] = base_id
    config["target_modules"] = sorted(config["target_modules"])  # a set in PEFT: its order differs from run to run
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return folder
