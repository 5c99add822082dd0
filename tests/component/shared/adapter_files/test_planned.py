"""What is said of an adapter before its training is what the store says of the one that PEFT writes."""

import pytest
import transformers

from services.trainer.training.peft_folder import save_adapter, with_lora
from shared.adapter_files import AdapterLimits, BaseShapes, check_adapter, check_planned
from shared.contracts.training_settings import LoraSettings
from shared.errors import Invalid

SIZES = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 12,
         "num_attention_heads": 2, "num_key_value_heads": 1}  # fmt: skip
LIMITS = AdapterLimits(max_rank=8)
LINEAR = [
    f"model.layers.{layer}.{part}"
    for layer in range(SIZES["num_hidden_layers"])
    for part in (*(f"self_attn.{x}_proj" for x in "qkvo"), *(f"mlp.{x}_proj" for x in ("gate", "up", "down")))
]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES)).save_pretrained(folder)
    return folder


def said(work):
    try:
        work()
    except Invalid as error:
        return error.code
    except ValueError:  # PEFT's, where no module matches
        return "target_modules_unknown"
    return None


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({}, None),
        ({"target_modules": "all-linear"}, None),
        ({"target_modules": LINEAR}, None),
        ({"target_modules": LINEAR[:64]}, None),
        ({"target_modules": LINEAR[:65]}, None),
        ({"method": "dora", "target_modules": ["up_proj"]}, None),
        ({"method": "rslora", "top_layers": 3}, None),
        ({"method": "pissa", "rank": 4, "target_modules": ["q_proj"]}, None),
        ({"method": "pissa", "rank": 5, "target_modules": ["q_proj"]}, "adapter_rank_too_large"),
        ({"rank": 9}, "adapter_rank_too_large"),
        ({"target_modules": ["w_pack"]}, "target_modules_unknown"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_both_say_the_same(base, tmp_path, settings, code):
    config, shapes = LoraSettings(**{"rank": 2, **settings}), BaseShapes.from_folder(base)

    def write_and_check():
        model = with_lora(transformers.LlamaForCausalLM.from_pretrained(base), config)
        initial = {name: w.detach() for name, w in model.state_dict().items() if "lora_" in name}
        initial = {name.replace(".default", ""): w for name, w in initial.items()}
        folder = save_adapter(model, tmp_path, "pin", initial if config.method == "pissa" else None)
        check_adapter(folder, shapes, LIMITS)

    assert said(lambda: check_planned(config, shapes, LIMITS)) == said(write_and_check) == code
