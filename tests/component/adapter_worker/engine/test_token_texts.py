"""The bytes of single tokens, in the vocabularies that base models have."""

import pytest

from services.adapter_worker.engine.token_texts import TokenTexts
from tests.support.chat_tokenizers import byte_level, sentence_piece

TEXT = "Grüße  日本\n🎉"


@pytest.fixture(params=["byte level", "sentence pieces"])
def tokenizer(request):
    if request.param == "byte level":
        return byte_level(["<|endoftext|>"], eos="<|endoftext|>")
    return sentence_piece(["<unk>", "<s>", "</s>"])


def test_bytes_joined_are_the_text_though_tokens_are_parts_of_characters(tokenizer):
    texts, ids = TokenTexts(tokenizer), tokenizer.encode(TEXT, add_special_tokens=False)
    joined = b"".join(bytes.fromhex(texts.bytes_of(token)) for token in ids).decode()
    assert joined.removeprefix(" ") == TEXT  # sentence pieces begin a text with a space
    assert texts.decode(ids) == joined
    assert max(len(bytes.fromhex(texts.bytes_of(token))) for token in ids) < len("🎉".encode())


def test_a_control_token_has_the_bytes_of_its_name_though_a_text_leaves_it_out(tokenizer):
    texts, end = TokenTexts(tokenizer), tokenizer.eos_token_id
    assert bytes.fromhex(texts.bytes_of(end)).decode() == tokenizer.eos_token
    assert texts.decode([end]) == ""


def test_every_token_has_bytes_and_an_id_behind_the_last_one_has_none(tokenizer):
    texts = TokenTexts(tokenizer)
    assert all(texts.bytes_of(token) for token in range(len(tokenizer)))
    assert texts.bytes_of(len(tokenizer) + 7) == ""
