import numpy as np
import pytest

from services.trainer.training.light import fit_light
from shared.errors import Invalid
from shared.model.light import FEATURES, LightSelector, count_features, weigh

TEXTS = {
    "bank.cards": ["my card is lost", "block the card", "a new card please", "card declined at the shop"],
    "travel.trips": ["book a flight to rome", "cheap flights in may", "flight and hotel", "when does my flight leave"],
    "none.none": ["tell me a joke", "what is the weather", "sing a song", "how old are you"],
}


@pytest.fixture
def light():
    return fit_light(TEXTS)


def best(light, *texts):
    return [light.labels[column] for column in light.score(texts).argmax(axis=1)]


def test_new_texts_go_to_the_label_whose_words_they_share(light):
    assert best(light, "is my card blocked", "flights to paris", "a joke about the weather") == [
        "bank.cards",
        "travel.trips",
        "none.none",
    ]


def test_scores_are_log_probabilities(light):
    scores = light.score(["my card", "", "完全不同的语言"])
    assert scores.dtype == np.float32
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, rtol=1e-5)


def test_no_texts_give_no_rows(light):
    assert light.score([]).shape == (0, 3)


def test_a_stored_selector_scores_as_before(light, tmp_path):
    texts = [text for own in TEXTS.values() for text in own]
    loaded = LightSelector.load(light.save(tmp_path / "light.safetensors"))
    assert loaded.labels == light.labels
    np.testing.assert_allclose(loaded.score(texts), light.score(texts), atol=5e-3)


def test_the_same_rows_give_the_same_file(tmp_path):
    one, other = (fit_light(TEXTS).save(tmp_path / name).read_bytes() for name in ("one", "other"))
    assert one == other


@pytest.mark.parametrize("labels", [("bank.cards", "travel.trips"), ("travel.trips", "none.none")])
def test_two_labels_are_told_apart_with_calibrated_halves(labels):
    light = fit_light({label: TEXTS[label] for label in labels})
    for label in labels:
        assert best(light, *TEXTS[label]) == [label] * 4
    np.testing.assert_allclose(np.exp(light.score(["zzz"])).sum(), 1, rtol=1e-5)


def test_case_and_spacing_do_not_count():
    one, other = count_features("  Where IS\tmy card "), count_features("where is my card")
    np.testing.assert_array_equal(one.features, other.features)
    np.testing.assert_array_equal(one.counts, other.counts)


def test_letters_and_words_of_any_text_weigh_the_same():
    for text in ("a", "card", "我的银行卡丢了", "x" * 5000, "many words in one text"):
        weights = weigh(count_features(text), np.ones(FEATURES, dtype=np.float32))
        assert np.linalg.norm(weights) == pytest.approx(np.sqrt(2), rel=1e-4)


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "junk").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ")
    (tmp_path / "noise").write_bytes(b"\xff" * 100)
    for name in ("junk", "noise", "missing"):
        with pytest.raises(Invalid, match="not a light selector"):
            LightSelector.load(tmp_path / name)


def test_the_order_of_the_labels_is_the_askers(light):
    turned = light.in_order(light.labels[::-1])
    assert turned.labels == light.labels[::-1]
    np.testing.assert_allclose(turned.score(["my card"])[:, ::-1], light.score(["my card"]), atol=1e-6)
