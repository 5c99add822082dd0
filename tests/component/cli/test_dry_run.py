"""Lengths of rows in the tokens of the base model that is on this machine."""

import json

import pytest

from services.cli.main import main
from shared.model.tokens import encode_text
from tests.support.chat_tokenizers import family


@pytest.fixture
def dry_run(tmp_path, monkeypatch, capsys):
    """Show three rows as they would be trained on the base model of a folder."""

    def of(folder, *words):
        file = tmp_path / "rows.csv"
        file.write_text("input,output\n" + "hello there,yes\n" * 3)
        monkeypatch.setenv("SIGNALBOX_BASE_MODEL", str(folder))
        monkeypatch.setenv("SIGNALBOX_DATA_DIR", str(tmp_path / "data"))
        monkeypatch.setattr("sys.argv", ["signalbox", "datasets", "add", str(file), "--dry-run", *words])
        with pytest.raises(SystemExit):
            main()
        return capsys.readouterr().out

    return of


def test_a_dry_run_shows_rows_by_the_base_models_usual_template(dry_run, tmp_path):
    family("llama3").save_pretrained(tmp_path / "llama3")
    found = json.loads(dry_run(tmp_path / "llama3", "--json"))
    prompt, answer = found["sample"][0]
    assert (found["template"], answer) == ("model", {"text": "yes", "learnt": True})
    assert prompt["text"].endswith("hello there<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n")
    assert "row 1, by the template model (> is learnt" in dry_run(tmp_path / "llama3")
    assert json.loads(dry_run(tmp_path / "llama3", "--json", "--template", "plain"))["template"] == "plain"


def test_a_dry_run_counts_tokens_where_the_base_model_is_here(dry_run, tiny_folder, tiny_tokenizer):
    found = json.loads(dry_run(tiny_folder, "--json"))
    text = "".join(part["text"] for part in found["sample"][0])
    lengths = found["lengths"]
    assert (lengths["unit"], lengths["by"]) == ("tokens", f"the tokenizer of {tiny_folder.name}")
    assert lengths["longest"] == len(encode_text(tiny_tokenizer, text, allow_special=True))
    assert sum(step["rows"] for step in lengths["histogram"]) == 3
