"""Which labels get a key."""

from services.api.console.inbox_queue import KEYS_SHOWN, candidates
from shared.contracts.generation import LabelProbability, SelectionResult

LABELS = [f"d.label-{number}" for number in range(20)]


def test_the_most_probable_labels_come_first_then_others_by_name():
    runners_up = (LabelProbability(label="d.label-7", probability=0.2), LabelProbability(label="b.b", probability=0.1))
    selection = SelectionResult(best_label="a.a", probability=0.5, runners_up=runners_up, label_set=("a.a", "c.c"))
    found = candidates(selection, "", LABELS)
    assert [(one.label, one.probability) for one in found[:4]] == [
        ("a.a", 0.5),
        ("d.label-7", 0.2),
        ("b.b", 0.1),
        ("c.c", None),
    ]
    assert [one.label for one in found[4:]] == LABELS[:5]
    assert len(found) == KEYS_SHOWN


def test_a_job_without_a_selection_offers_its_own_label_first():
    assert [one.label for one in candidates(None, "z.z", LABELS[:2])] == ["z.z", *LABELS[:2]]
    assert candidates(None, "", []) == []
