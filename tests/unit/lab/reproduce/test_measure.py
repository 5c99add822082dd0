"""A cascade's parts, measured from one reading of the rows."""

import numpy as np
import pytest

from lab.reproduce.measure import measure, measure_parts
from lab.reproduce.provenance import provenance
from lab.reproduce.task_data import HeldOutRows
from services.trainer.evaluation.selector import SelectorScores
from shared.contracts.manifests import ReleaseSelector
from shared.contracts.rows import Row
from tests.support.reproduce_samples import GRID, case_of

LABELS = ("fin.sa", "med.ie", "med.qa")
ROWS = HeldOutRows([Row(input=str(n), instruction="say") for n in range(4)], ["fin.sa", "fin.sa", "med.ie", "med.qa"])


class SelectorScorer:
    """Returns prepared scores, and remembers the texts."""

    def __init__(self, light=None, llm=None):
        self._scores = SelectorScores(*(labels and np.log(np.eye(3)[labels] + 0.01) for labels in (light, llm)))

    def score(self, selector, texts):
        self.texts = texts
        return self._scores


def selector(**fields):
    return ReleaseSelector(labels=LABELS, threshold=0.999, **fields)


def test_a_cascade_is_measured_whole_and_in_parts_and_nothing_is_rejected():
    scorer = SelectorScorer(light=[0, 1, 1, 1], llm=[0, 0, 2, 2])
    found = measure_parts(selector(light="a", llm="b"), ROWS, ["med.ie", "med.qa"], scorer)
    assert set(found) == {"light", "llm", "cascade"}
    assert (found["light"].accuracy, found["llm"].accuracy) == (0.5, 0.75)
    assert (found["llm"].clear, found["llm"].overlapping) == (1.0, 0.5)
    assert found["llm"].per_label == {"fin.sa": 1.0, "med.ie": 0.0, "med.qa": 1.0}
    assert found["light"].confusion["fin.sa"] == {"fin.sa": 1, "med.ie": 1}


def test_a_selector_is_measured_as_it_is_served_where_that_is_asked():
    scorer = SelectorScorer(light=[0, 0, 1, 2])
    rejecting = ReleaseSelector(labels=LABELS, threshold=1.0, light="a")
    found = measure_parts(rejecting, ROWS, [], scorer, as_served=True)
    assert (found["light"].accuracy, found["served"].accuracy) == (1.0, 0.0)
    assert found["served"].confusion["med.ie"] == {"none.none": 1}


@pytest.mark.parametrize(("text", "read"), [("input", "0"), ("instruction+input", "say\n0")])
def test_rows_are_read_as_the_release_reads_them(text, read):
    scorer = SelectorScorer(light=[0, 0, 1, 2])
    found = measure_parts(selector(light="a", text=text), ROWS, [], scorer)
    assert scorer.texts[0] == read
    assert (found["light"].accuracy, found["light"].overlapping) == (1.0, None)


def test_a_comparison_model_brings_its_scores_and_an_adapter_makes_no_line():
    result = {
        "score": {"fin.sa": 0.75, "med.ie": 0.25},
        "measure": {"fin.sa": "exact_match", "med.ie": "rouge_l_f1"},
        "validation_rows": {"fin.sa": 8, "med.ie": 4},
    }
    found = measure(case_of("theirs"), result, None, 512, GRID, None)
    answers = found.by_part["answers"]
    assert (answers.accuracy, answers.clear, answers.overlapping, answers.n) == (0.5, 0.75, 0.25, 12)
    assert found.measures["med.ie"] == "rouge_l_f1"
    assert measure(case_of("adapter"), {"adapter": "d1"}, None, 512, GRID, None).by_part == {}


def test_figures_say_where_they_come_from():
    made = provenance()
    assert made.machine
    assert made.commit
    assert {"python", "torch"} <= set(made.versions)
