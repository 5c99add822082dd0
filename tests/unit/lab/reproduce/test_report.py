"""A report as people and machines read it."""

import csv

import pytest

from lab.reproduce.grid import Name, cases_of
from lab.reproduce.plot import figure_of
from lab.reproduce.report import Report
from lab.reproduce.results_store import Failure
from lab.reproduce.table_rows import lines_of
from tests.support.reproduce_samples import GRID, case_of, measured, outcome_of

RESULTS = {
    Name("1", "input"): outcome_of(),
    Name("2", "input"): Failure("encoder_missing", "the trainer has no sentence encoder"),
    Name("1", "instruction+input"): outcome_of(text="instruction+input"),
}


def written(tmp_path, grid=GRID, results=RESULTS, others=(), *, quick=False):
    files = Report("sample", grid, quick, cases_of(grid, quick=quick), results, others).write(tmp_path)
    return {file.suffix: file for file in files}


def tables(markdown):
    """Every table as records by column name; a line of another width fails."""
    found, head = [], None
    for line in markdown.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else None
        if cells is None:
            head = None
        elif head is None:
            head = cells
            found.append([])
        elif set(cells) != {"---"}:
            found[-1].append(dict(zip(head, cells, strict=True)))
    return found


def test_the_summary_has_a_line_for_each_part_beside_the_papers_number(tmp_path):
    summary, by_task, *_ = tables(written(tmp_path)[".md"].read_text())
    llm, words, failed, gone, _, _, theirs = summary
    assert (llm["selector"], llm["paper"], llm["ours"], llm["distance"]) == ("language model", "0.900", "0.812", "L2")
    assert (llm["tokens seen"], llm["seconds"], llm["trained on"], llm["seed"]) == ("12,345", "62", "cpu", "0")
    assert (words["selector"], words["ours"], words["tokens seen"]) == ("words alone", "0.500", "-")
    assert (failed["selector"], failed["ours"]) == ("failed: encoder_missing", "-")
    assert (gone["condition"], gone["selector"]) == ("gone", "not run yet")
    assert (theirs["selector"], theirs["paper"], theirs["ours"]) == ("not run yet", "0.600", "-")
    assert by_task[0]["fin.sa"] == "0.750 (0.950)"
    assert by_task[0]["med.ie"] == "0.875"


def test_the_other_reading_is_not_held_against_the_paper(tmp_path):
    *_, summary, by_task = tables(written(tmp_path)[".md"].read_text())
    assert [line["paper"] for line in summary] == ["-"] * len(summary)
    assert "theirs" not in {line["condition"] for line in summary}
    assert by_task[0]["fin.sa"] == "0.750"


def test_the_report_says_what_it_was_measured_with_and_what_failed(tmp_path):
    text = written(tmp_path)[".md"].read_text()
    for said in ("a machine; commit abc1234; torch 2", "`smollm2` (a82e)", "One note.", '"epochs": 5',
                 "2, input: encoder_missing: the trainer has no sentence encoder", "3 empty inputs"):  # fmt: skip
        assert said in text


def test_a_quick_report_has_names_of_its_own_and_says_what_it_leaves_out(tmp_path):
    files = written(tmp_path, quick=True, results={})
    assert files[".md"].name == "sample-quick.md"
    assert "Quick: One epoch. Left out: gone, answering." in files[".md"].read_text()


def test_the_csv_has_a_record_for_every_column_of_the_paper(tmp_path):
    with written(tmp_path)[".csv"].open() as stream:
        records = list(csv.DictReader(stream))
    first = records[0]
    assert (first["column"], first["ours"], first["paper"], first["shown"]) == (
        "accuracy",
        "0.8125",
        "0.9",
        "distance=L2",
    )
    assert (first["commit"], first["tokens_seen"], first["rows"], first["release"]) == (
        "abc1234",
        "12345",
        "20",
        "rel_1",
    )
    assert {r["status"] for r in records} == {
        "",
        "failed: encoder_missing",
        "not run yet",
    }
    assert len(records) == 3 * (2 + 1 + 1 + 3 + 2 + 1 + 1)


def test_other_base_models_are_lines_of_a_table_across_bases(tmp_path):
    grid = GRID.model_copy(update={"across_bases": True})
    other = outcome_of(base="qwen", base_id="b", measured={"llm": measured(0.95)})
    summary, *_ = tables(written(tmp_path, grid, others=[other])[".md"].read_text())
    assert {(line["base model"], line["ours"]) for line in summary if line["ours"] != "-"} == {
        ("smollm2", "0.812"), ("smollm2", "0.500"), ("qwen", "0.950"),
    }  # fmt: skip


def test_each_base_model_has_bars_of_its_own():
    grid = GRID.model_copy(update={"across_bases": True})
    other = outcome_of(base="qwen", base_id="b", measured={"llm": measured(0.95)})
    figure = figure_of(grid, lines_of(grid, cases_of(grid, quick=False), {Name("1", "input"): outcome_of()}, [other]))
    bars = figure.axes[0]
    names = [label.get_text() for label in bars.get_xticklabels()]
    assert [name for name in names if "," in name] == ["1, smollm2", "1, qwen"]
    assert 0.95 in [bar.get_height() for bar in bars.patches]


@pytest.mark.parametrize("value", ["accuracy", "rows"])
@pytest.mark.parametrize("results", [RESULTS, {}])
def test_the_plot_is_a_picture_with_and_without_figures(tmp_path, value, results):
    picture = written(tmp_path, GRID.model_copy(update={"value": value}), results)[".png"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_papers_numbers_of_answers_stand_beside_answers_alone(tmp_path):
    parts = {part: measured(0.5, **{"fin.sa": 0.5}) for part in ("light", "oracle", "routed")}
    judged = {"fin.sa": "exact_match", "med.ie": "rouge_l_f1"}
    conditions = [c.model_copy(update={"paper": (0.6, 0.5, 0.7)}) for c in GRID.conditions]
    results = {case_of("answering").name: outcome_of("answering", measured=parts, measures=judged)}
    text = written(tmp_path, GRID.model_copy(update={"conditions": tuple(conditions)}), results)[".md"].read_text()
    lines = {line["selector"]: line["paper"] for line in tables(text)[0] if line["condition"] == "answering"}
    assert lines == {"words alone": "-", "the right adapter": "0.600", "the selector's adapter": "0.600"}
    assert "- med.ie: rouge_l_f1" in text


def test_rows_chosen_are_a_table_of_their_own(tmp_path):
    text = written(tmp_path, GRID.model_copy(update={"value": "rows"}))[".md"].read_text()
    assert tables(text)[1][0] == {"condition": "1", "fin.sa": "100", "med.ie": "99"}
