import numpy as np
import pytest

from services.trainer.evaluation.judged import judged_rows
from services.trainer.evaluation.selector import SelectorScores
from shared.contracts.judged import MAX_TEXT_CHARS, MOST_ROWS
from shared.contracts.manifests import ReleaseSelector
from shared.contracts.rows import Row

SELECTOR = ReleaseSelector(light="d", labels=("a.a", "b.b"))


def scores_of(count):
    return SelectorScores(np.log(np.tile([0.8, 0.2], (count, 1)).astype(np.float32)), None)


def test_rows_are_kept_with_what_the_selector_found_and_the_beginning_of_their_texts():
    long = "Where is  my CARD " + "x" * MAX_TEXT_CHARS
    first, second = judged_rows(
        SELECTOR, scores_of(2), {"a.a": [Row(input=long, label="a.a")], "b.b": [Row(input=long.lower(), label="b.b")]}
    )

    assert (first.label, first.best_label, first.probability) == ("a.a", "a.a", pytest.approx(0.8))
    assert (second.label, second.best_label) == ("b.b", "a.a")
    assert first.text == long[:MAX_TEXT_CHARS]
    assert first.text_hash == second.text_hash  # case tells no texts apart


def test_of_many_rows_evenly_many_of_each_label_are_kept():
    counts = {"a.a": 2 * MOST_ROWS, "b.b": 10}
    rows = {label: [Row(input=f"{label} {n}", label=label) for n in range(count)] for label, count in counts.items()}

    kept = judged_rows(SELECTOR, scores_of(sum(counts.values())), rows)

    assert [sum(row.label == label for row in kept) for label in rows] == [MOST_ROWS // 2, 10]
