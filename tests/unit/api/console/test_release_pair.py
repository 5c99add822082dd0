from services.api.console.release_pair import MOST_MOVED, pair, routes
from shared.contracts.judged import JudgedRow
from shared.contracts.labels import BACKGROUND
from tests.support.api import make_release


def row(text, label="fin.sa", best_label="fin.sa", confidence=0.9):
    return JudgedRow(
        text=text, text_hash=text, label=label, best_label=best_label, probability=0.9, confidence=confidence
    )


def test_labels_that_come_and_go_and_adapters_that_change_are_named():
    one, other = make_release(labels=("fin.sa", "fin.ha")), make_release(labels=("fin.sa", "med.qa"))
    newer = other.labels["fin.sa"].model_copy(update={"ref": "fin.sa@2", "adapter": "f" * 64})
    other = other.model_copy(update={"labels": {**other.labels, "fin.sa": newer}})
    found = pair(one, other)

    assert (found.added, found.removed) == (["med.qa"], ["fin.ha"])
    assert found.adapters == [("fin.sa", "ref", "fin.sa@1", "fin.sa@2")]


def test_another_file_under_the_same_name_is_a_change():
    one = make_release()
    changed = one.labels["fin.sa"].model_copy(update={"adapter": "f" * 64})
    other = one.model_copy(update={"labels": {**one.labels, "fin.sa": changed}})

    assert [change.what for change in pair(one, other).changed] == ["adapter"]


def test_two_equal_releases_differ_in_nothing():
    assert pair(make_release(), make_release()) == ([], [], [], [], [])


def test_the_largest_loss_of_accuracy_comes_first():
    one = make_release(report={"per_label": {"fin.sa": 0.9, "fin.ha": 0.8, "med.qa": 1.0}})
    other = make_release(report={"per_label": {"fin.sa": 0.95, "fin.ha": 0.6}})

    assert [found.label for found in pair(one, other).accuracies] == ["fin.ha", "fin.sa"]


def test_rows_are_matched_by_text_and_label_and_those_that_get_worse_come_first():
    before = [row("a"), row("b"), row("c", BACKGROUND), row("d", "fin.ha"), row("only before")]
    after = [row("d", "fin.ha", "med.qa"), row("c", BACKGROUND, confidence=0.1), row("b", confidence=0.1), row("a")]
    found = routes(make_release(), make_release(), (before, [*after, row("a", "fin.ha"), row("only after")]))

    assert (found.compared, found.changed, found.better, found.worse) == (4, 3, 1, 1)
    assert [(moved.text, moved.one, moved.other) for moved in found.moved] == [
        ("b", "fin.sa", BACKGROUND),
        ("d", "fin.sa", "med.qa"),
        ("c", "fin.sa", BACKGROUND),
    ]


def test_of_many_rows_the_first_are_shown_and_all_are_counted():
    before = [row(str(n)) for n in range(300)]
    after = [row(str(n), confidence=0.1) for n in range(300)]
    found = routes(make_release(), make_release(), (before, after))

    assert (len(found.moved), found.changed) == (MOST_MOVED, 300)
