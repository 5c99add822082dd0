"""Labelled rows from files and folders: where a row's label comes from."""

import gzip
import json
import re
from pathlib import Path

import pytest

from services.cli.evaluate.labelled_rows import known_rows, read_labelled, unknown_labels
from shared.errors import Invalid


def write(path, *rows):
    data = "\n".join(json.dumps(row) for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def labels(*paths, label=""):
    return [r.label for r in read_labelled(paths, label)]


def test_the_rows_that_the_page_of_commands_evaluates_are_there():
    root = Path(__file__).parents[4]
    named = re.findall(r"^signalbox evaluate .*--data (\S+)", (root / "docs/commands.md").read_text(), re.MULTILINE)
    assert len(named) == 2
    assert {label for path in named for label in labels(root / path)} == {"bank.cards"}


def test_the_label_field_comes_first_then_domain_and_task_then_the_files_name(tmp_path):
    file = write(
        tmp_path / "fin.sa.test.jsonl",
        {"input": "a", "label": "x.y", "domain": "d", "task": "t"},
        {"input": "b", "domain": "d", "task": "t"},
        {"input": "c"},
    )
    assert labels(file) == ["x.y", "d.t", "fin.sa"]
    assert labels(file, label="support") == ["x.y", "d.t", "support"]


def test_a_folder_gives_all_its_files_gzipped_or_not(tmp_path):
    write(tmp_path / "a.b.jsonl.gz", {"input": "x"})
    write(tmp_path / "c.d.jsonl", {"input": "y"})
    (tmp_path / "README.md").write_text("no rows")
    assert labels(tmp_path) == ["a.b", "c.d"]


def test_rows_without_any_label_are_refused_by_the_files_name(tmp_path):
    with pytest.raises(Invalid, match=r"data\.jsonl") as refusal:
        labels(write(tmp_path / "data.jsonl", {"input": "x"}))
    assert refusal.value.code == "label_missing"


def test_a_broken_line_is_named_with_its_file(tmp_path):
    file = tmp_path / "a.b.jsonl"
    file.write_text('{"input": "x"}\n{')
    with pytest.raises(Invalid, match=r"a\.b\.jsonl: line 2"):
        labels(file)


def test_rows_of_labels_that_the_selector_lacks_are_set_apart_and_named(tmp_path):
    rows = [
        write(tmp_path / f"{name}.test.jsonl", {"input": name}, {"input": "x"}) for name in ("b.c", "x", "none.none")
    ]
    known, unknown = known_rows(read_labelled(rows), ("b.c", "none.none", "b.d"))
    assert ([row.label for row in known], unknown) == (["b.c"] * 2 + ["none.none"] * 2, {"x.test": 2})
    said = unknown_labels(unknown, ("none.none", "b.d", "b.c"))
    assert "does not know x.test (2 rows); it knows b.c, b.d. " in said
    assert "--label LABEL" in said


def test_rows_of_no_label_that_the_selector_knows_are_refused(tmp_path):
    with pytest.raises(Invalid, match=r"does not know x\.test \(1 row\); it knows b\.c") as refusal:
        known_rows(read_labelled([write(tmp_path / "x.test.jsonl", {"input": "a"})]), ("b.c",))
    assert refusal.value.code == "label_unknown"
    assert known_rows(read_labelled([write(tmp_path / "none.none.jsonl", {"input": "a"})]), ("b.c",))[1] == {}
