"""The base model in the folder that services mount."""

import pytest

from shared.errors import Invalid
from shared.model import fetch
from shared.model.base import base_model_id
from shared.model.fetch import fetch_base_model
from tests.support.tiny_model import save_tiny_model


def test_a_model_that_is_there_is_left_alone_but_for_its_digests(tmp_path):
    folder = save_tiny_model(tmp_path / "models" / "tiny")
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert fetch_base_model("tiny", tmp_path / "models") == folder.resolve()
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert (folder / ".signalbox-digest.json").is_file()


def test_a_model_of_the_hub_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    def download(name, folder):
        assert not (tmp_path / "owner" / "model").exists()
        save_tiny_model(folder)

    monkeypatch.setattr(fetch, "download_from_hub", download)
    folder = fetch_base_model("owner/model", tmp_path)
    assert [path.name for path in (tmp_path / "owner").iterdir()] == ["model"]
    assert base_model_id(folder) == base_model_id(save_tiny_model(tmp_path / "same"))


@pytest.mark.parametrize("name", ["../elsewhere", "/etc", ".", ""])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    with pytest.raises(Invalid, match="no name of a model"):
        fetch_base_model(name, tmp_path)
