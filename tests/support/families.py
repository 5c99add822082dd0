"""Tiny random models of the families that are served, with what sets a family apart switched on."""

from pathlib import Path

WINDOW = {"sliding_window": 24}
"""Shorter than the prompts of the tests, so that it matters."""
_MIXED = {**WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
_NARROW = {"head_dim": 16}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
SIZES = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 1024, "initializer_range": 0.15,
}  # fmt: skip
MAIN = {
    "llama": {"tie_word_embeddings": False},
    "mistral": {**_NARROW, **WINDOW},
    "qwen2": {},
    "qwen3": {"head_dim": 32},
    "gemma": _NARROW,
    "gemma2": {**_NARROW, **_MIXED, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 2.0,
               "final_logit_softcapping": 5.0},
    "gemma3_text": {**_NARROW, **_MIXED, "query_pre_attn_scalar": 16},
    "phi3": WINDOW,
    "smollm3": {"no_rope_layers": [1, 0]},
    "olmo2": {},
}  # fmt: skip
"""The families of the usual test run."""
OTHERS = {
    "arcee": {},
    "cohere2": _MIXED,
    "exaone4": _MIXED,
    "glm": _NARROW,
    "glm4": _NARROW,
    "granite": {"attention_multiplier": 0.2, "residual_multiplier": 0.5, "logits_scaling": 2.0},
    "ministral": {**_NARROW, **_MIXED},
    "olmo3": _MIXED,
    "phi": {},
    "seed_oss": _NARROW,
    "starcoder2": {},
}
EXPERTS = {
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {**_EXPERTS, "shared_expert_intermediate_size": 32},
    "qwen3_moe": {**_EXPERTS, **_NARROW},
}
OPTIONS = {**MAIN, **OTHERS, **EXPERTS}


def config_of(name, tokens, **more):
    from transformers import AutoConfig

    ends = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    return AutoConfig.for_model(name, **{**SIZES, **ends, "vocab_size": tokens, **OPTIONS[name], **more})


def build(name, tokens, **more):
    """A model of a family in which biases and norms are random, too."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(config_of(name, tokens, **more))
    for module in model.modules():
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if "Norm" in type(module).__name__ and weight is not None:
            weight.data += 0.3 * torch.randn_like(weight)
        if isinstance(module, torch.nn.Linear) and bias is not None:
            torch.nn.init.normal_(bias, std=0.1)
    return model.eval()


def linear_names(model):
    """The names of the linear layers inside the layers, each once."""
    import torch

    linears = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    return sorted({name.rpartition(".")[2] for name in linears if ".layers." in name})


def save_family(folder: Path, name, tokenizer) -> Path:
    """A folder as any base model's, with the special tokens of this tokenizer."""
    ends = {kind: getattr(tokenizer, kind) for kind in ("bos_token_id", "eos_token_id", "pad_token_id")}
    build(name, len(tokenizer), **ends).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
