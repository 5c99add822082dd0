"""The folders that PEFT itself writes."""

import peft
import transformers

from shared.adapter_files import AdapterLimits, BaseShapes, check_adapter


def test_what_this_peft_really_writes_is_accepted(tmp_path):
    sizes = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2,
             "num_attention_heads": 2, "num_key_value_heads": 1}  # fmt: skip
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes))
    model.save_pretrained(tmp_path / "base")
    base = BaseShapes.from_folder(tmp_path / "base")
    lora = peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", use_dora=True)
    peft.get_peft_model(model, lora).save_pretrained(tmp_path / "adapter")
    assert check_adapter(tmp_path / "adapter", base, AdapterLimits()).method == "dora"
