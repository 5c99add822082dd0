"""Lengths of rows in the tokens of the base model that is on this machine."""

import json

import pytest

from services.cli.main import main
from shared.model.tokens import encode_text


def test_a_dry_run_counts_tokens_where_the_base_model_is_here(
    tiny_folder, tiny_tokenizer, tmp_path, monkeypatch, capsys
):
    file = tmp_path / "rows.csv"
    file.write_text("input,output\n" + "hello there,yes\n" * 3)
    monkeypatch.setenv("SIGNALBOX_BASE_MODEL", str(tiny_folder))
    monkeypatch.setenv("SIGNALBOX_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr("sys.argv", ["signalbox", "datasets", "add", str(file), "--dry-run", "--json"])
    with pytest.raises(SystemExit):
        main()
    found = json.loads(capsys.readouterr().out)
    text = "".join(part["text"] for part in found["sample"][0])
    lengths = found["lengths"]
    assert (lengths["unit"], lengths["by"]) == ("tokens", f"the tokenizer of {tiny_folder.name}")
    assert lengths["longest"] == len(encode_text(tiny_tokenizer, text, allow_special=True))
    assert sum(step["rows"] for step in lengths["histogram"]) == 3
