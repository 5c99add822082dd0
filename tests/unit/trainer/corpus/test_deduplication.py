"""Equal and nearly equal documents: the candidates of MinHash against datasketch, the decision against exact sets."""

import random

import datasketch
import numpy as np
import pytest

from services.trainer.corpus.exact import Seen, digest_of
from services.trainer.corpus.fuzzy import Bands, Near, band_keys, bands_for, jaccard, shingles_of
from shared.contracts.corpus_clean import FuzzyDeduplication

WORDS = ["ley", "artículo", "juez", "bien", "parte", "plazo", "pago", "daño", "contrato", "persona", "norma", "título"]


def text_of(seed, length=120):
    chance = random.Random(seed)
    return " ".join(f"{chance.choice(WORDS)}{chance.randrange(30)}" for _ in range(length))


def edited(text, share, seed=0):
    chance = random.Random(seed)
    return " ".join(f"otra{chance.randrange(999)}" if chance.random() < share else word for word in text.split())


def exact(first, second, length):
    sets = [
        {tuple(text.split()[at : at + length]) for at in range(len(text.split()) - length + 1)}
        for text in (first, second)
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_texts_that_differ_in_case_and_spaces_alone_are_equal(tmp_path):
    assert digest_of("Artículo  1.\nLa Nación") == digest_of("ARTÍCULO 1. LA NACIÓN")
    assert digest_of("Artículo 1") != digest_of("Artículo 2")
    seen = Seen(tmp_path / "seen")
    assert [seen.add(digest_of(text)) for text in ("a", "b", "A ", "c")] == [True, True, False, True]
    seen.close()


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.95])
def test_bands_miss_one_pair_in_200_at_the_threshold(threshold):
    bands = bands_for(threshold)
    assert bands.chance(threshold) >= 0.995
    assert bands.number * bands.rows <= 128
    longer = [Bands(number, bands.rows + 1) for number in range(1, 128 // (bands.rows + 1) + 1)]
    assert all(one.chance(threshold) < 0.995 for one in longer)


def test_the_index_of_shingles_is_the_exact_one():
    first = text_of(1)
    for share in (0.0, 0.05, 0.2, 1.0):
        second = edited(first, share)
        assert jaccard(shingles_of(first, 3), shingles_of(second, 3)) == pytest.approx(exact(first, second, 3))


def test_chinese_is_compared_by_runs_of_characters():
    first = "为了保护民事主体的合法权益，调整民事关系"
    assert len(shingles_of(first, 3)) == len("为了保护民事主体的合法权益调整民事关系") - 4
    assert jaccard(shingles_of(first, 3), shingles_of(first.replace("，", "。"), 3)) == 1


def test_bands_agree_as_often_as_those_of_datasketch():
    """Of pairs of every likeness, as many are candidates as the oracle finds, within chance."""
    bands = Bands(20, 4)
    pairs = [(text_of(seed), edited(text_of(seed), share, seed)) for share in (0.03, 0.1, 0.2) for seed in range(60)]
    ours, theirs = [], []
    for first, second in pairs:
        sets = [shingles_of(text, 3) for text in (first, second)]
        keys = band_keys(sets, bands)
        ours.append(bool((keys[0] == keys[1]).any()))
        oracle = datasketch.MinHashLSH(num_perm=80, params=(20, 4))
        made = []
        for one in sets:
            made.append(datasketch.MinHash(num_perm=80, seed=7))
            made[-1].update_batch([value.tobytes() for value in one])
        oracle.insert("first", made[0])
        theirs.append(bool(oracle.query(made[1])))
    assert abs(np.mean(ours) - np.mean(theirs)) <= 0.06
    likely = [bands.chance(exact(first, second, 3)) for first, second in pairs]
    assert abs(np.mean(ours) - np.mean(likely)) <= 3 * np.sqrt(
        np.mean(np.multiply(likely, 1 - np.array(likely))) / len(pairs)
    )


def test_what_nearly_is_a_kept_text_goes_and_nothing_else(tmp_path):
    near = Near(tmp_path / "near", FuzzyDeduplication())
    originals = [text_of(seed) for seed in range(40)]
    assert near.add(originals) == [-1] * 40
    copies = [edited(text, share, seed) for seed, text in enumerate(originals) for share in (0.02, 0.05, 0.1, 0.2)]
    found = near.add(copies)
    right = missed = 0
    for copy, kept, original in zip(copies, found, np.repeat(originals, 4), strict=True):
        is_near = exact(copy, original, 3) >= 0.7
        right += is_near and kept >= 0
        missed += is_near and kept < 0
        assert is_near or kept < 0
    assert right >= 40
    assert missed <= 1
    near.close()


def test_an_index_that_is_filled_again_finds_the_same(tmp_path):
    texts = [text_of(seed // 2) if seed % 2 else edited(text_of(seed // 2), 0.03, seed) for seed in range(60)]
    whole, again = (Near(tmp_path / name, FuzzyDeduplication()) for name in ("whole", "again"))
    found = whole.add(texts)
    kept = [text for text, near in zip(texts[:30], found, strict=False) if near < 0]
    assert again.add(kept, is_known_new=True) == [-1] * len(kept)
    assert again.add(texts[30:]) == found[30:]


def test_texts_without_words_are_near_nothing(tmp_path):
    near = Near(tmp_path / "near", FuzzyDeduplication())
    assert near.add(["...", "!!!", "..."]) == [-1, -1, -1]
    assert near.add([]) == []
