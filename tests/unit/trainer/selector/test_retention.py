from services.trainer.selector.retention import Point, least_loss, retain

ROWS = {"fin.sa": list(range(10)), "fin.ha": list(range(100, 105))}


def test_each_label_keeps_its_share_in_order():
    kept = retain(ROWS, 0.3, seed=0)

    assert [len(kept["fin.sa"]), len(kept["fin.ha"])] == [3, 2]
    assert all(rows == sorted(rows) and set(rows) <= set(ROWS[label]) for label, rows in kept.items())


def test_a_label_keeps_at_least_one_row_and_at_most_all():
    assert len(retain(ROWS, 0.001, seed=0)["fin.ha"]) == 1
    assert retain(ROWS, 1.0, seed=0) == ROWS


def test_a_label_without_rows_stays_empty():
    assert retain({"fin.sa": []}, 0.5, seed=0) == {"fin.sa": []}


def test_the_draw_depends_on_the_seed_and_on_no_other_label():
    alone = retain({"fin.sa": ROWS["fin.sa"]}, 0.5, seed=1)

    assert alone["fin.sa"] == retain(ROWS, 0.5, seed=1)["fin.sa"]
    assert any(retain(ROWS, 0.5, seed=seed) != retain(ROWS, 0.5, seed=1) for seed in range(2, 6))


def test_a_share_of_nothing_is_no_label_at_all():
    assert retain(ROWS, 0, seed=0) == {}


def test_the_ratio_that_loses_least_is_the_smallest_of_those_that_lose_as_little():
    lost, held = Point(0.0, 0.8, 0.3, "fin.sa"), Point(0.1, 0.9, 0.01, "fin.sa")
    assert least_loss([lost, held]) == held
    worse = [lost, Point(0.1, 0.9, 0.2, "fin.sa"), Point(0.3, 0.9, 0.2, "fin.ha")]
    assert least_loss(worse).retention == 0.1
