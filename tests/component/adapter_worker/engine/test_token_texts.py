"""The bytes of single tokens, in the vocabularies that base models have."""

import pytest

from services.adapter_worker.engine.detokenize import Detokenizer
from services.adapter_worker.engine.token_texts import TokenTexts
from tests.support.chat_tokenizers import byte_level, family, sentence_piece

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


def test_a_control_token_that_is_to_be_shown_stands_in_the_text_and_others_do_not():
    tokenizer = family("mistral-tools")
    texts = TokenTexts(tokenizer)
    mark, other = tokenizer.convert_tokens_to_ids(["[TOOL_CALLS]", "[INST]"])
    ids = [*tokenizer.encode("Sure.", add_special_tokens=False), mark, other]
    ids += tokenizer.encode('[{"name": "f"}]', add_special_tokens=False)
    shown = frozenset([mark])
    assert "[TOOL_CALLS]" in texts.decode(ids, shown)
    assert "[INST]" not in texts.decode(ids, shown)
    assert "[TOOL_CALLS]" not in texts.decode(ids)
    stream = Detokenizer(lambda several: texts.decode(several, shown))
    assert "".join([*map(stream.push, ids), stream.flush()]) == texts.decode(ids, shown)
