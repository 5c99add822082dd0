"""Planted groups of points are found whole, noise and known points are not."""

from itertools import pairwise

import numpy as np
import pytest

from services.trainer.traffic.clusters import (
    LEAST_SIZE,
    LEAST_STABILITY,
    _communities,
    _joined,
    _nearest,
    clusters,
    novel_rows,
    stable_clusters,
)
from shared.model.features import normalised

SIZES = (60, 40, 30)


def around(centres, sizes, spread=0.15, seed=0, size=24):
    """Points of length 1 around random directions, group after group."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(99).normal(size=(centres, size))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    points = [
        direction + spread * rng.normal(size=(count, size))
        for direction, count in zip(directions[-len(sizes) :], sizes, strict=True)
    ]
    return normalised(np.concatenate(points).astype(np.float32))


def noise(count, seed=7, size=24):
    return normalised(np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32))


def groups(sizes):
    return [set(range(start, end)) for start, end in pairwise(np.cumsum([0, *sizes]).tolist())]


def test_planted_groups_are_found_whole_and_stable_the_largest_first():
    found = stable_clusters(around(3, SIZES))
    assert [set(one.rows.tolist()) for one in found] == groups(SIZES)
    assert min(one.stability for one in found) > 0.95


def test_groups_are_found_among_noise_that_belongs_to_none():
    found = stable_clusters(np.concatenate([around(3, SIZES), noise(100)]))
    assert len(found) == 3
    for one, group in zip(found, groups(SIZES), strict=True):
        rows = set(one.rows.tolist())
        assert len(rows & group) > 0.9 * len(group)
        assert len(rows - group) < 0.1 * len(rows)


@pytest.mark.parametrize("seed", range(3))
def test_noise_has_no_stable_cluster(seed):
    assert stable_clusters(noise(400, seed, size=64)) == []


def test_the_rows_of_a_cluster_begin_with_the_nearest_to_its_centre():
    points = around(1, [50])
    (found,) = clusters(points)
    cosines = points[found] @ normalised(points[found].mean(axis=0)[None])[0]
    assert cosines.argmax() == 0
    assert cosines[:10].mean() > cosines[-10:].mean()


@pytest.mark.parametrize("count", [0, 1, LEAST_SIZE - 1])
def test_few_points_are_no_cluster(count):
    points = around(1, [50])[:count]
    assert clusters(points) == stable_clusters(points) == []


def test_a_group_that_is_too_small_is_none():
    found = stable_clusters(around(3, (60, 40, LEAST_SIZE - 1)))
    assert [set(one.rows.tolist()) for one in found] == groups((60, 40))


@pytest.mark.parametrize("count", [20, 60])
def test_a_group_on_its_own_is_found_whole(count):
    (found,) = stable_clusters(around(1, [count]))
    assert set(found.rows.tolist()) == set(range(count))


def test_points_that_cannot_be_told_apart_are_no_cluster():
    assert clusters(np.tile(around(1, [1]), (40, 1))) == []
    assert clusters(np.zeros((40, 24), dtype=np.float32)) == []


def test_points_among_known_ones_are_not_novel():
    points = around(2, (40, 40))
    known = around(2, (200, 40), seed=5)[:200]  # the first group again
    assert novel_rows(points, known).tolist() == list(range(40, 80))
    assert len(novel_rows(points, points[:0])) == 80


def test_the_nearest_points_are_those_of_the_largest_cosines_without_the_point_itself():
    points = noise(30)
    cosines = points @ points.T
    np.fill_diagonal(cosines, -2)
    assert _nearest(points, points, 4).tolist() == np.argsort(-cosines, axis=1)[:, :4].tolist()
    assert _nearest(points[:3], points[:3], 4).shape == (3, 2)
    same = np.tile(points[:1], (30, 1))
    assert not (_nearest(same, same, 4) == np.arange(30)[:, None]).any()


def test_communities_hold_points_of_one_group_and_are_joined_to_it():
    points = around(3, SIZES)
    owners = _communities(points, 0)
    joined = _joined(points, owners)
    assert not set(owners[:60]) & set(owners[60:])
    assert len(set(owners[:60])) > 1
    assert [len(set(joined[sorted(group)])) for group in groups(SIZES)] == [1, 1, 1]
    assert len(set(joined)) == 3


def test_the_same_points_and_seed_give_the_same_clusters():
    points = np.concatenate([around(3, SIZES, spread=0.3), noise(100)])
    one, other = stable_clusters(points, 3), stable_clusters(points, 3)
    assert [rows.tolist() for rows, _ in one] == [rows.tolist() for rows, _ in other]
    assert all(stability >= LEAST_STABILITY for _, stability in one)
