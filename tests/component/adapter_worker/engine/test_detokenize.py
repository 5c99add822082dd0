"""Pieces of text from the tokens of a real tokenizer."""

import random

from services.adapter_worker.engine.detokenize import Detokenizer


def test_pieces_of_random_tokens_are_what_the_tokenizer_says_of_all_of_them(kit):
    chance = random.Random(2)
    for _ in range(50):
        ids = [chance.randrange(len(kit.tokenizer)) for _ in range(20)]
        detokenizer = Detokenizer(lambda some: kit.tokenizer.decode(some, skip_special_tokens=True))
        whole = kit.tokenizer.decode(ids, skip_special_tokens=True)
        assert "".join([*map(detokenizer.push, ids), detokenizer.flush()]) == whole
