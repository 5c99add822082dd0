import pytest

from shared.contracts.intervals import share_interval


@pytest.mark.parametrize(
    ("right", "rows", "low", "high"),
    [(3, 3, 0.4385, 1.0), (0, 3, 0.0, 0.5615), (81, 263, 0.2553, 0.3662), (10, 10, 0.7225, 1.0)],  # Newcombe 1998
)
def test_the_interval_of_a_share_is_wilsons(right, rows, low, high):
    assert share_interval([True] * right + [False] * (rows - right)) == pytest.approx((low, high), abs=1e-4)


def test_without_rows_anything_may_be_true():
    assert share_interval([]) == (0, 1)
