from services.api.console.release_facts import MOST_CONFUSED, bins, confusion, tasks, unserved
from shared.ledger.calls import Gauge, Gauges
from tests.support.api import make_release


def test_what_was_judged_comes_first_the_least_accurate_before_all():
    report = {
        "per_label": {"fin.sa": 0.9, "fin.ha": 0.5, "none.none": 0.7},
        "intervals": {"per_label": {"fin.ha": [0.4, 0.6]}},
        "confusion": {"fin.ha": {"fin.ha": 3, "fin.sa": 3}},
        "before": {"fin.ha": 0.55},
    }
    found = tasks(make_release(report=report))

    assert [task.label for task in found] == ["fin.ha", "none.none", "fin.sa", "med.qa"]
    assert found[0][3:] == (True, 0.5, 0.4, 0.6, 6, 0.55)
    assert (found[3].accuracy, found[3].rows) == (None, None)


def test_labels_that_older_reports_name_with_their_domain_are_the_same_labels():
    release = make_release(
        report={"per_label": {"default.support": 1.0}, "confusion": {"default.support": {"fin.sa": 1}}}
    )

    assert confusion(release).rows[0].label == "support"


def test_a_line_of_the_matrix_says_where_a_labels_rows_go():
    (row, _) = confusion(
        make_release(report={"confusion": {"a.a": {"a.a": 9, "b.b": 1}, "b.b": {"b.b": 1}, "c.c": {}}})
    ).rows[:2]

    assert (row.label, row.rows, row.elsewhere) == ("a.a", 10, 0)
    assert [(cell.rows, cell.share, cell.is_right) for cell in row.cells[:2]] == [(9, 0.9, True), (1, 0.1, False)]
    assert [cell.shade for cell in row.cells[:2]] == [8, 1]


def test_of_many_labels_those_that_are_confused_most_are_shown():
    counts = {f"a.t{n}": {f"a.t{n}": 9} for n in range(40)}
    counts["a.t39"] = {"a.t39": 5, "a.t38": 3, "b.rare": 1}
    found = confusion(make_release(report={"confusion": counts}))

    assert len(found.labels) == MOST_CONFUSED
    assert {"a.t38", "a.t39", "b.rare"} <= set(found.labels)
    assert (found.hidden, len(found.rows)) == (11, MOST_CONFUSED - 1)  # no row belongs to b.rare


def test_a_row_that_went_to_a_label_that_is_not_shown_went_elsewhere():
    counts = {"a.a": {f"b.t{n:02}": 1 for n in range(40)}}
    (row,) = confusion(make_release(report={"confusion": counts})).rows

    assert row.elsewhere == 40 - (MOST_CONFUSED - 1)


def test_a_release_without_a_report_has_no_diagrams():
    assert confusion(make_release()).rows == []
    assert bins(make_release()) == []


def gauges(*queues):
    return Gauges([Gauge(queue, 0, 0, 1) for queue in queues], {}, {}, {})


def test_queues_that_nobody_serves_are_named_with_what_to_start():
    release = make_release()

    (missing,) = unserved(release, gauges("generate.fin", "generate.base"))
    assert missing == "no live worker serves generate.med: start one: signalbox worker --group med"
    assert unserved(release, gauges("generate.fin", "generate.base", "generate.*")) == []


def test_workers_of_another_base_model_serve_no_release():
    served = ["generate.fin", "generate.base", "generate.med"]
    release = make_release()

    assert unserved(release, gauges(*served, *(f"{queue}@tiny" for queue in served))) == []
    (wrong,) = unserved(release, gauges(*served, "generate.fin@other"))
    assert wrong == "the workers of generate.fin serve base model other, not tiny"
