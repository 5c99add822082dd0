"""Sets of rows that labels leave, and come back to."""

from services.trainer.selector.data import Sets, joined
from shared.contracts.labels import BACKGROUND
from shared.contracts.rows import Row


def rows(label, *texts):
    return [Row(input=text, label=label) for text in texts]


SETS = Sets(
    {
        "fin.sa": rows("fin.sa", "up", "both"),
        "fin.ha": rows("fin.ha", "gold", " Both "),
        BACKGROUND: rows(BACKGROUND, "hello"),
    },
    {"fin.sa": rows("fin.sa", "down"), "fin.ha": rows("fin.ha", "silver")},
)


def test_a_deleted_label_becomes_background_but_for_texts_that_another_label_has():
    left = SETS.without(["fin.ha"]).joined(SETS.as_background(["fin.ha"]))

    assert set(left.representation) == {"fin.sa", BACKGROUND}
    assert left.representation[BACKGROUND] == [*rows(BACKGROUND, "hello"), *rows("fin.ha", "gold")]
    assert left.validation == {"fin.sa": rows("fin.sa", "down"), BACKGROUND: rows("fin.ha", "silver")}


def test_a_label_that_comes_back_is_no_background_any_more():
    deleted = SETS.without(["fin.ha"]).joined(SETS.as_background(["fin.ha"]))
    back = deleted.without(["fin.ha"])

    assert back.representation == {"fin.sa": SETS.representation["fin.sa"], BACKGROUND: rows(BACKGROUND, "hello")}
    assert back.validation == {"fin.sa": SETS.validation["fin.sa"]}


def test_a_label_without_rows_is_no_label():
    assert joined({"fin.sa": []}, {"fin.ha": rows("fin.ha", "gold")}) == {"fin.ha": rows("fin.ha", "gold")}
