from services.trainer.domain.retention import retain

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
