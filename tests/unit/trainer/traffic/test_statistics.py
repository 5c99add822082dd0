"""Every statistic against scipy or a plain computation of it, and how often each is wrong where nothing differs."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import chi2_contingency, mannwhitneyu
from sklearn.linear_model import Ridge

from services.trainer.traffic.statistics import (
    FOLDS,
    NOTHING,
    RIDGE,
    classified,
    distributions,
    holm,
    label_counts,
    label_mix,
    mean_discrepancy,
    permuted,
    pooled,
    proportions,
)

EMPTY = np.zeros(0)


def points(count, shift=0.0, seed=0, size=5):
    found = np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)
    found[:, 0] += shift
    return found


def test_the_mix_of_labels_is_compared_as_scipy_does():
    before, after = ["a.x"] * 60 + ["a.y"] * 40, ["a.x"] * 30 + ["a.y"] * 70
    expected = chi2_contingency([[60, 40], [30, 70]], correction=False)
    assert label_mix(before, after) == pytest.approx((expected.statistic, expected.pvalue))


def test_rare_labels_are_pooled_with_their_domain_and_what_is_still_rare_with_one_another():
    before = ["a.x"] * 90 + [f"a.rare{n}" for n in range(6)] + ["b.one", "c.one"] * 3
    after = ["a.x"] * 90 + [f"a.rare{n}" for n in range(6)] + ["b.one", "c.one"] * 3
    assert pooled(label_counts(before, after)) == {"a.x": (90, 90), "a.*": (6, 6), "*": (6, 6)}


def test_a_rest_that_is_too_small_joins_the_smallest_cell():
    before, after = ["a.x"] * 50 + ["a.y"] * 20 + ["b.z"], ["a.x"] * 50 + ["a.y"] * 20
    assert pooled(label_counts(before, after)) == {"a.x": (50, 50), "a.y": (21, 20)}


def test_labels_of_one_word_have_the_default_domain_in_common():
    counts = pooled(label_counts(["x"] * 90 + ["y", "z"] * 5, ["x"] * 90 + ["u", "v"] * 5))
    assert counts == {"x": (90, 90), ".*": (10, 10)}


@pytest.mark.parametrize(
    ("before", "after"), [([], []), (["a.x"], []), ([], ["a.x"] * 9), (["a.x"] * 99, ["a.x"] * 99)]
)
def test_mixes_without_requests_or_with_one_label_do_not_differ(before, after):
    assert label_mix(before, after) == NOTHING


def test_shares_are_compared_exactly_and_the_statistic_is_their_difference():
    found = proportions(np.repeat([True, False], [3, 7]), np.repeat([True, False], [9, 1]))
    assert found.statistic == pytest.approx(0.6)
    # All tables with the same sums that are at most as probable as this one, which has 3 of 12 in the first sample.
    tables = [math.comb(10, n) * math.comb(10, 12 - n) for n in range(2, 11)]
    assert found.p_value == pytest.approx(sum(one for one in tables if one <= tables[1]) / math.comb(20, 12))


def test_shares_and_distributions_of_nothing_do_not_differ():
    nobody = np.zeros(0, dtype=bool)
    assert proportions(nobody, nobody) == proportions(nobody, np.ones(3, dtype=bool)) == NOTHING
    assert distributions(EMPTY, EMPTY) == distributions(np.ones(3), EMPTY) == NOTHING


def test_the_largest_gap_of_two_distributions_is_the_statistic():
    found = distributions(np.linspace(0, 1, 200), np.linspace(0, 1, 200) ** 2)
    assert found.statistic == pytest.approx(0.25, abs=0.01)
    assert found.p_value < 0.001


def test_equal_numbers_do_not_differ():
    assert distributions(np.ones(500), np.ones(50)) == (0.0, 1.0)


def test_the_classifier_scores_rows_by_fits_without_their_fold():
    before, after = points(40), points(30, 1.0, seed=1)
    tested, scores = classified(before, after, np.random.default_rng(5))
    rows, members = np.concatenate([before, after]), np.repeat([0.0, 1.0], [40, 30])
    rows, targets = rows - rows.mean(axis=0), members - members.mean()
    folds = np.random.default_rng(5).permutation(np.arange(70) % FOLDS)
    expected = np.empty(70)
    for fold in range(FOLDS):
        out = folds == fold
        alpha = RIDGE * np.trace(rows.T @ rows) / rows.shape[1]
        expected[out] = Ridge(alpha=alpha, fit_intercept=False).fit(rows[~out], targets[~out]).predict(rows[out])
    assert scores == pytest.approx(expected, abs=1e-5)
    area = mannwhitneyu(scores[40:], scores[:40]).statistic / (40 * 30)
    assert tested.statistic == pytest.approx(area)


def test_the_mean_discrepancy_is_the_mean_kernel_within_less_that_between():
    before, after = points(6), points(5, 2.0, seed=1)

    def kernel(one, other):
        return np.exp(-((one[:, None] - other) ** 2).sum(axis=2) / (2 * 1.5**2)).mean()

    found = mean_discrepancy(before, after, 1.5, np.random.default_rng(0))
    assert found.statistic == pytest.approx(
        kernel(before, before) + kernel(after, after) - 2 * kernel(before, after), abs=1e-6
    )


def test_the_p_value_of_a_permutation_test_is_the_share_of_all_permutations_that_reach_the_statistic():
    before, after = points(5), points(4, 1.5, seed=1)
    rows = np.concatenate([before, after]).astype(np.float64)
    kernel = np.exp(-((rows[:, None] - rows) ** 2).sum(axis=2) / 2)

    def statistic(chosen):
        weights = np.where(np.isin(np.arange(9), chosen), 1 / 4, -1 / 5)
        return weights @ kernel @ weights

    observed = statistic(range(5, 9))
    exact = np.mean([statistic(chosen) >= observed - 1e-9 for chosen in itertools.combinations(range(9), 4)])
    found = [mean_discrepancy(before, after, 1.0, np.random.default_rng(seed)).p_value for seed in range(300)]
    # Drawing until ten reach the statistic gives a little more than the share: that keeps the p-value valid.
    assert exact < 0.1
    assert exact <= np.mean(found) <= 1.2 * exact


@pytest.mark.parametrize("width", [0, 3])
def test_points_without_directions_and_equal_points_do_not_differ(width):
    alike = np.zeros((50, width), dtype=np.float32)
    rng = np.random.default_rng(0)
    assert classified(alike, alike, rng)[0] == NOTHING
    assert mean_discrepancy(alike, alike, 1.0, rng).p_value == 1.0
    assert classified(alike, alike[:0], rng)[0] == mean_discrepancy(alike[:0], alike, 1.0, rng) == NOTHING


def test_what_differs_is_found():
    before, after = points(400), points(200, 0.6, seed=1)
    rng = np.random.default_rng(0)
    tested, scores = classified(before, after, rng)
    assert tested.statistic > 0.6
    assert tested.p_value < 0.001
    assert scores[400:].mean() > scores[:400].mean()
    assert mean_discrepancy(before, after, 3.0, rng).p_value < 0.001


def test_permutations_end_where_enough_of_them_reach_the_statistic():
    drawn = []

    def statistics(members):
        drawn.append(members.shape[1])
        return np.arange(members.shape[1]) % 2.0

    members = np.repeat(np.float32([0, 1]), [5, 5])[:, None]
    assert permuted(1.0, statistics, members, np.random.default_rng(0)) == pytest.approx(10 / 20)
    assert drawn == [99]
    assert permuted(2.0, statistics, members, np.random.default_rng(0)) == pytest.approx(1 / 2000)


def test_permutations_keep_the_number_of_members():
    seen = []

    def statistics(members):
        seen.append(members.sum(axis=0))
        return np.zeros(members.shape[1])

    permuted(1.0, statistics, np.repeat(np.float32([0, 1]), [7, 3])[:, None], np.random.default_rng(0))
    assert {float(count) for counts in seen for count in counts} == {3.0}


def test_several_p_values_are_adjusted_step_by_step():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
    assert list(holm({"a": 0.5, "b": 0.001})) == ["b", "a"]
    assert holm({"a": 0.9, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


SIMULATIONS = 200


@pytest.mark.parametrize(
    "test",
    [
        lambda rng: label_mix(rng.choice(30, 600).astype(str), rng.choice(30, 200).astype(str)),
        lambda rng: proportions(rng.random(600) < 0.1, rng.random(200) < 0.1),
        lambda rng: distributions(rng.random(600), rng.random(200)),
        lambda rng: classified(*sampled(rng), rng)[0],
        lambda rng: mean_discrepancy(*sampled(rng), 3.0, rng),
    ],
    ids=["label mix", "proportions", "distributions", "classifier", "discrepancy"],
)
def test_where_nothing_differs_a_p_value_is_small_as_rarely_as_it_says(test):
    p_values = np.array([test(np.random.default_rng(seed)).p_value for seed in range(SIMULATIONS)])
    for level in (0.05, 0.2):
        allowed = level + 3 * np.sqrt(level * (1 - level) / SIMULATIONS)
        assert np.mean(p_values <= level) <= allowed


def sampled(rng):
    return rng.normal(size=(60, 5)).astype(np.float32), rng.normal(size=(30, 5)).astype(np.float32)
