from services.trainer.data.split import split_by_text

TEXTS = [f"text {number}" for number in range(200)]


def split(texts, share=0.2, seed=0):
    return split_by_text(texts, lambda text: text, share, seed)


def test_every_row_lands_on_exactly_one_side():
    parts = split(TEXTS)

    assert sorted(parts.train + parts.validation) == sorted(TEXTS)
    assert 20 <= len(parts.validation) <= 60


def test_rows_of_one_text_stay_together_whatever_case_and_blanks():
    rows = [variant for text in TEXTS for variant in (text, f"  {text.upper()} ")]

    parts = split(rows)

    assert not {row.strip().casefold() for row in parts.train} & {row.strip().casefold() for row in parts.validation}


def test_new_rows_move_no_old_row():
    few, many = split(TEXTS[:100]), split(TEXTS)

    assert set(few.validation) <= set(many.validation)
    assert set(few.train) <= set(many.train)


def test_the_seed_chooses_another_part():
    assert split(TEXTS, seed=0) == split(TEXTS, seed=0)
    assert split(TEXTS, seed=0) != split(TEXTS, seed=1)


def test_neither_side_of_two_texts_is_empty():
    for share in (0.0, 0.5, 1.0):
        parts = split(["a", "b"], share)
        assert (len(parts.train), len(parts.validation)) == (1, 1)


def test_no_rows_split_into_nothing():
    assert split([]) == ([], [])
