"""A tiny random Llama with a byte-level tokenizer, written to a folder like any base model."""

from collections.abc import Sequence
from pathlib import Path

from shared.contracts.prompts import CHATML_END


def save_tiny_model(
    folder: Path, *, seed: int = 0, head_dim: int | None = None, hidden_size: int = 32, more_tokens: Sequence[str] = ()
) -> Path:
    """vLLM's attention on processors needs heads of 32."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer()
    tokenizer.add_tokens(list(more_tokens))
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=head_dim,
        max_position_embeddings=1024,
        initializer_range=0.2,  # wide enough that tokens differ clearly in their likelihood
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", CHATML_END]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*special, *letters])}
    inner = Tokenizer(models.BPE(vocabulary, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<|im_start|>", eos_token=CHATML_END, unk_token="<|endoftext|>"
    )
