"""The quality filter is fitted the same at every attempt, and tells damaged texts from good ones in any script."""

import pytest

from services.trainer.corpus.quality import Quality, damaged, fit
from services.trainer.corpus.second_pass import fitted, sample_of
from tests.support.corpora import ARTICLES

CHINESE = [
    f"第{number}条 为了保护民事主体的合法权益，调整民事关系，维护社会和经济秩序，适应中国特色社会主义发展要求，"
    f"弘扬社会主义核心价值观，根据宪法，制定本法第{number}款。民法调整平等主体的自然人、法人和非法人组织之间的人身关系和财产关系。民事主体的人身权利、财产权利以及"
    f"其他合法权益受法律保护，任何组织或者个人不得侵犯。"
    for number in range(40)
]
SPANISH = [f"{text} Esto vale en el año {year}." for year in range(1990, 1995) for text in ARTICLES]


@pytest.mark.parametrize("texts", [SPANISH, CHINESE], ids=["Spanish", "Chinese"])
def test_good_texts_stay_and_damaged_ones_go(texts):
    quality = fit(texts[::2], [])
    unseen = texts[1::2]
    assert min(quality.probabilities(unseen)) > 0.5
    assert sum(probability > 0.5 for probability in quality.probabilities([damaged(text) for text in unseen])) <= 1
    assert quality.right >= 0.8


def test_two_fits_are_equal_and_what_is_stored_scores_the_same():
    first, second = fit(SPANISH, []), fit(SPANISH, [])
    assert first.as_fields() == second.as_fields()
    assert Quality.of_fields(first.as_fields()).probabilities(SPANISH) == first.probabilities(SPANISH)


def test_rejected_texts_are_learnt_from():
    rejected = [
        f"Carrito de compras {number}: añadir, pagar, envío gratis, suscríbase al boletín" for number in range(60)
    ]
    quality = fit(SPANISH, rejected[:40])
    assert max(quality.probabilities(rejected[40:])) < 0.5
    assert min(quality.probabilities(SPANISH)) > 0.5


def test_the_texts_of_a_fit_do_not_depend_on_their_order():
    good = [(text, number / 100) for number, text in enumerate(SPANISH)]
    first = sample_of(good, ["b", "a"], liked=0.5)
    assert first == sample_of(good[::-1], ["a", "b"], liked=0.5)
    assert set(first.good) == {text for text, _ in good[20:]}
    assert len(sample_of(good, [], liked=1.0).good) == 40


def test_too_few_texts_are_no_fit_and_short_ones_show_nothing():
    assert fitted(sample_of([(text, 1.0) for text in SPANISH[:19]], [], liked=1.0)) is None
    assert sample_of([("corto", 1.0)] * 50, [], liked=1.0).good == []
    assert fit(SPANISH, []).probabilities([""])[0] >= 0
