"""`signalbox datasets add`: what it says of a file before anything is uploaded."""

import json

import pytest

from services.cli.main import main

ROWS = [{"instruction": "Name it.", "input": "Hund\x1b[31m", "output": "dog"}, {"input": "x" * 2000}]


@pytest.fixture
def add(tmp_path, monkeypatch, capsys):
    """Runs the command on a file of these bytes, without an API; answers its status, its output and its errors."""
    monkeypatch.setenv("SIGNALBOX_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SIGNALBOX_BASE_MODEL", "smollm2")
    monkeypatch.setenv("SIGNALBOX_API_URL", "http://127.0.0.1:1")
    monkeypatch.delenv("SIGNALBOX_API_KEY", raising=False)

    def add(content, *words, name="rows.jsonl"):
        file = tmp_path / name
        file.write_bytes(content)
        monkeypatch.setattr("sys.argv", ["signalbox", "datasets", "add", str(file), *words])
        with pytest.raises(SystemExit) as end:
            main()
        shown = capsys.readouterr()
        return int(end.value.code or 0), shown.out, shown.err

    return add


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_a_dry_run_shows_the_format_the_rows_as_they_are_trained_and_their_lengths(add):
    status, out, _ = add(lines(*ROWS), "--dry-run", "--template", "plain")
    assert status == 0
    assert out.splitlines()[0] == "JSON lines: alpaca (1), input/output (1), 2 rows"
    assert "| Name it.\n| \n| Hund\\x1b[31m\n| \n> dog\n" in out  # a terminal would obey the sign as it is
    assert "lengths in characters (no tokenizer of smollm2 is on this machine), 2 rows" in out
    assert "up to 2048  ########################################  1" in out
    assert "(1404 characters)" in out


def test_a_dry_run_for_machines_is_one_line_of_json(add):
    status, out, _ = add(lines(*ROWS), "--dry-run", "--json", "--template", "plain")
    found = json.loads(out)
    assert (status, found["rows"], found["format"]) == (0, 2, "JSON lines: alpaca (1), input/output (1)")
    assert found["sample"][0] == [
        {"text": "Name it.\n\nHund\x1b[31m\n\n", "learnt": False},
        {"text": "dog", "learnt": True},
    ]
    assert found["lengths"]["unit"] == "characters"


def test_twenty_wrong_lines_are_shown_and_the_others_counted(add):
    status, out, err = add(lines({"input": "fine"}) + b"x\n" * 150)
    assert (status, out) == (1, "")
    assert err.count("not JSON") == 20
    assert "line 21: not JSON" in err
    assert "line 22" not in err
    assert "and 130 more; --json lists all of them" in err


def test_a_file_of_plain_text_is_told_what_a_line_is(add):
    _, _, err = add(b"hello\nwhat is the weather like\n")
    assert '2 records cannot be taken; mend them; a line is {"input": …}' in " ".join(err.split())
    _, _, err = add(lines({"inptu": "a"}))
    assert "1 record cannot be taken; mend them" in err
    assert "a line is" not in err


def test_wrong_records_beside_labels_that_are_none_are_both_told(add):
    _, _, err = add(lines({"input": "a", "label": "Support Bot"}, {"input": ""}))
    said = " ".join(err.split())
    assert "1 record cannot be taken; mend them; these labels are none; --accept-labels takes" in said


def test_machines_get_every_wrong_line(add):
    status, out, _ = add(lines({"input": "fine"}) + b"x\n" * 150, "--json")
    refused = json.loads(out)
    assert (status, refused["code"], refused["wrong_rows"]) == (1, "dataset_malformed", 150)
    assert [error["line"] for error in refused["errors"]] == list(range(2, 152))


def test_labels_that_are_none_are_a_table_and_wait_for_a_yes(add):
    content = lines({"input": "a", "label": "Support Bot"}, {"input": "b", "label": "support bot"})
    status, out, err = add(content)
    assert status == 1
    assert "Support Bot\tsupport-bot\t1" in out
    assert "support-bot: 'Support Bot', 'support bot' become one" in err
    assert "--accept-labels" in err
    status, out, _ = add(content, "--accept-labels", "--dry-run")
    assert status == 0
    assert "support bot\tsupport-bot\t1" in out


def test_columns_are_named_for_tables_and_for_keys(add):
    named = ("--columns", "input=text,output=answer", "--dry-run", "--json")
    for content in (b"answer,text\nyes,Is it?\n", lines({"text": "Is it?", "answer": "yes"})):
        assert json.loads(add(content, *named)[1])["rows"] == 1
    status, _, err = add(b"answer,text\nyes,Is it?\n", "--columns", "text")
    assert (status, "columns_malformed" in err) == (1, True)


def test_what_is_right_is_uploaded_which_needs_a_key(add):
    status, _, err = add(lines(*ROWS))
    assert (status, "key_missing" in err) == (1, True)


def test_an_unknown_template_is_named(add):
    status, _, err = add(lines(*ROWS), "--dry-run", "--template", "jinja")
    assert (status, "template_unknown" in err) == (1, True)
