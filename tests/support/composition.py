"""Random adapters on the tiny model, and what PEFT makes of several at once."""

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from shared.model.base import load_model

ATTENTION = ["q_proj", "v_proj"]
KINDS = {
    "plain": {"r": 4, "lora_alpha": 8, "target_modules": ATTENTION},
    "wide": {"r": 6, "lora_alpha": 3, "target_modules": [*ATTENTION, "gate_proj", "down_proj"]},
    "rslora": {"r": 9, "lora_alpha": 16, "use_rslora": True, "target_modules": ["o_proj", "v_proj"]},
    "by module": {
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["q_proj", "k_proj", "up_proj"],
        "rank_pattern": {"k_proj": 7, "layers.1.mlp.up_proj": 3},
        "alpha_pattern": {"q_proj": 32},
    },
    "upper layer": {"r": 3, "lora_alpha": 1.5, "target_modules": ["q_proj"], "layers_to_transform": [1]},
}
IDS = torch.tensor([[1, 40, 41, 42, 43, 44, 45, 2]])


def random_adapter(model_folder, folder, seed=0, *, dtype=torch.float32, size=0.05, **config):
    """A PEFT folder of random weights that answers otherwise than the base model."""
    torch.manual_seed(seed)
    given = {"task_type": "CAUSAL_LM", "init_lora_weights": False, **config}
    peft = get_peft_model(load_model(model_folder, "float32", "cpu"), LoraConfig(**given))
    for name, weight in peft.named_parameters():
        if "lora_" in name:
            weight.data = (size * torch.randn_like(weight)).to(dtype)
    peft.save_pretrained(folder)
    return folder


def both_active(model_folder, *folders):
    """The base model with all adapters active at once, as PEFT has it."""
    model = load_model(model_folder, "float32", "cpu")
    for number, folder in enumerate(folders):
        if isinstance(model, PeftModel):
            model.load_adapter(folder, adapter_name=f"part{number}")
        else:
            model = PeftModel.from_pretrained(model, folder, adapter_name=f"part{number}")
    model.base_model.set_adapter([f"part{number}" for number in range(len(folders))])
    return model.eval()


def logits(model):
    """Logits of a few tokens, in float64 for differences."""
    with torch.inference_mode():
        return model(IDS).logits.double()
