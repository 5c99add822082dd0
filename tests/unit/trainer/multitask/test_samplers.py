"""Every sampler against its formula, at its limits, and in what it draws."""

import math
from collections import Counter
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.multitask.samplers import Sampling, drawn_rows, temperature, unimax

CLUE = (947, 49_726, 11_425, 19_836, 6_564, 50_437)
SIZES = st.lists(st.integers(1, 100_000), min_size=1, max_size=12)
SAMPLINGS = [
    Sampling("instance"),
    Sampling("class"),
    Sampling("temperature", tau=3.33),
    Sampling("capped-temperature", tau=2, cap=20_000),
    Sampling("unimax", epoch_cap=2),
]


def exact_temperature(sizes, tau, cap=None):
    """Equations 1 to 4 in 40 digits."""
    with localcontext(prec=40):
        kept = [Decimal(min(size, cap) if cap else size) for size in sizes]
        weights = [(size / sum(kept)) ** (1 / Decimal(tau)) for size in kept]
        return [float(weight / sum(weights)) for weight in weights]


def test_equations_1_to_4_on_the_papers_sizes():
    assert Sampling("instance").probabilities(CLUE, 0) == pytest.approx([n / sum(CLUE) for n in CLUE], rel=1e-14)
    assert Sampling("class").probabilities(CLUE, 0) == pytest.approx([1 / 6] * 6, rel=1e-15)
    assert Sampling("temperature", tau=2).probabilities(CLUE, 0) == pytest.approx(exact_temperature(CLUE, 2), rel=1e-14)
    capped = Sampling("capped-temperature", tau=2, cap=20_000).probabilities(CLUE, 0)
    assert capped == pytest.approx(exact_temperature(CLUE, 2, cap=20_000), rel=1e-14)
    assert capped[1] == capped[5] > capped[3]  # both are at the cap


@given(SIZES)
def test_a_tau_of_1_is_instance_balanced_and_one_of_infinity_class_balanced(sizes):
    assert temperature(sizes, 1) == pytest.approx(Sampling("instance").probabilities(sizes, 0), rel=1e-12)
    assert temperature(sizes, math.inf) == pytest.approx([1 / len(sizes)] * len(sizes), rel=1e-12)
    assert temperature(sizes, 1e12) == pytest.approx([1 / len(sizes)] * len(sizes), rel=1e-9)


@given(SIZES, st.floats(0.2, 50))
def test_a_cap_above_every_size_changes_nothing_and_one_of_1_makes_tasks_alike(sizes, tau):
    free = Sampling("temperature", tau=tau).probabilities(sizes, 0)
    assert Sampling("capped-temperature", tau=tau).probabilities(sizes, 0) == free
    assert Sampling("capped-temperature", tau=tau, cap=max(sizes)).probabilities(sizes, 0) == free
    alike = Sampling("capped-temperature", tau=tau, cap=1).probabilities(sizes, 0)
    assert alike == pytest.approx([1 / len(sizes)] * len(sizes), rel=1e-12)


@given(SIZES, st.integers(1, 10**7), st.sampled_from(SAMPLINGS))
def test_probabilities_sum_to_1_and_follow_the_order_of_sizes(sizes, draws, sampling):
    found = sampling.probabilities(sizes, draws)
    assert math.fsum(found) == pytest.approx(1, abs=1e-12)
    assert all(chance > 0 for chance in found)
    ordered = [chance for _, chance in sorted(zip(sizes, found, strict=True))]
    assert all(one <= other * (1 + 1e-12) for one, other in pairwise(ordered))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_one_task_is_always_drawn_and_may_have_one_row(sampling):
    assert sampling.probabilities([1], 100) == [1.0]
    assert drawn_rows([1.0], [1], 5, seed=0) == [0] * 5


def test_unimax_gives_small_tasks_their_cap_and_shares_the_rest_equally():
    # 947 x 2 = 1,894 and 6,564 x 2 = 13,128 are under an equal share of 60,000 draws; the other four share the rest.
    rest = Fraction(60_000 - 1_894) / 5
    assert rest < 13_128  # so only the smallest task is at its cap
    expected = [Fraction(1_894, 60_000), *[rest / 60_000] * 5]
    assert unimax(CLUE, 60_000, 2) == [float(share) for share in expected]
    assert unimax(CLUE, 100, 1) == pytest.approx([1 / 6] * 6)  # nothing binds
    everything_binds = unimax(CLUE, 10**9, 3)
    assert everything_binds == pytest.approx([n / sum(CLUE) for n in CLUE], rel=1e-14)


@given(SIZES, st.integers(1, 10**6), st.integers(1, 20))
def test_unimax_shows_no_row_more_often_than_its_cap(sizes, draws, epochs):
    given_draws = min(draws, sum(sizes) * epochs)
    for size, chance in zip(sizes, unimax(sizes, draws, epochs), strict=True):
        assert chance * given_draws <= size * epochs * (1 + 1e-9)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_million_draws_are_within_3_standard_errors(sampling):
    draws = 1_000_000
    chances = sampling.probabilities(CLUE, draws)
    bounds = [sum(CLUE[:n]) for n in range(len(CLUE) + 1)]
    counts = Counter(drawn_rows(chances, CLUE, draws, seed=1))
    for task, chance in enumerate(chances):
        seen = [counts[row] for row in range(bounds[task], bounds[task + 1])]
        assert abs(sum(seen) - draws * chance) <= 3 * math.sqrt(draws * chance * (1 - chance))
        assert max(seen) - min(seen) <= 1  # no row is shown again before all others of its task


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=5), st.integers(0, 300), st.integers(0, 300), st.integers(0, 9)
)
def test_fewer_draws_are_the_beginning_of_more(sizes, fewer, more, seed):
    chances = temperature(sizes, 2)
    longer = drawn_rows(chances, sizes, fewer + more, seed)
    assert longer[:fewer] == drawn_rows(chances, sizes, fewer, seed)
    assert all(0 <= row < sum(sizes) for row in longer)


def test_another_seed_draws_other_rows():
    assert drawn_rows([0.5, 0.5], [100, 100], 50, seed=1) != drawn_rows([0.5, 0.5], [100, 100], 50, seed=2)
