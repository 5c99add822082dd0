from shared.contracts.judged import JudgedRow, dump_judged, parse_judged, report_at, routed
from shared.contracts.labels import BACKGROUND


def row(label="fin.sa", best_label="fin.sa", confidence=0.6, probability=0.7):
    return JudgedRow(
        text="x", text_hash="00", label=label, best_label=best_label, confidence=confidence, probability=probability
    )


def test_a_threshold_rejects_what_is_less_sure():
    assert [row().route(threshold) for threshold in (0.6, 0.61)] == ["fin.sa", BACKGROUND]


def test_a_rejected_row_is_as_sure_as_its_label_is_not():
    (taken,), (rejected,) = (routed([row(probability=0.75)], threshold) for threshold in (0.5, 0.7))

    assert taken == ("fin.sa", "fin.sa", 0.75)
    assert rejected == ("fin.sa", BACKGROUND, 0.25)


def test_the_report_at_a_threshold_counts_what_it_rejects_of_either_kind():
    rows = [row(), row(confidence=0.9), row(label=BACKGROUND, confidence=0.3), row(label=BACKGROUND, confidence=0.8)]

    report = report_at(rows, 0.7)
    assert report["threshold"] == {"value": 0.7, "false_reject": 0.5, "background_reject": 0.5}
    assert (report["accuracy"], report["per_label"], report["n"]) == (0.5, {"fin.sa": 0.5, BACKGROUND: 0.5}, 4)
    assert sum(cell["n"] for cell in report["calibration"]) == 4


def test_rows_are_stored_as_every_version_reads_them():
    rows = [row(label="support"), row(best_label="med.qa")]

    data = dump_judged(rows)
    assert b'"label":"default.support"' in data
    assert parse_judged(data) == rows
