"""The multi-task tables count as the paper does: its own numbers of qualified tasks follow from its own scores."""

import csv

import pytest

from lab.reproduce.multitask_paper import FEW_SHOT, SINGLE, TABLES, models_of
from lab.reproduce.multitask_report import summary, write

WITH_SCORES = [(name, line) for name, table in TABLES.items() for line, paper in table.lines.items() if paper.scores]


def scores_of(name, line):
    table = TABLES[name]
    return {task: score / 100 for task, score in zip(table.tasks, table.lines[line].scores, strict=True)}


@pytest.mark.parametrize(("name", "line"), WITH_SCORES)
def test_the_papers_average_and_qualified_tasks_follow_from_its_scores(name, line):
    table, paper = TABLES[name], TABLES[name].lines[line]
    found = summary(line, scores_of(name, line), scores_of(name, SINGLE), models_of(table, line))
    assert 100 * found.average == pytest.approx(paper.average, abs=0.02)
    assert found.qualified == paper.qualified
    if paper.overhead is None:
        assert line == FEW_SHOT
        assert found.overhead is None
    else:
        assert 100 * found.overhead == pytest.approx(paper.overhead, abs=0.05)


def test_a_report_shows_what_is_measured_beside_the_paper_and_leaves_the_rest_open(tmp_path):
    table = TABLES["multitask-table1"]
    found = {line: scores_of("multitask-table1", line) for line in (SINGLE, "UniMax")}
    text, sheet = write("multitask-table1-quick", table, found, ["a note"], tmp_path)
    page = text.read_text()
    assert "| UniMax | 70.59 (70.59) |" in page
    assert "| 4 (4) | 25.00 (25.00) |" in page
    assert "| ours | - (71.32) |" in page
    assert "- a note" in page
    rows = list(csv.DictReader(sheet.open()))
    assert len(rows) == len(table.lines) * (len(table.tasks) + 3)
    assert {"method": "UniMax", "column": "Num.", "ours": "4", "paper": "4"} in rows
