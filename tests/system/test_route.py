"""The five-minute start: a labels file over stored adapters, to the first choice, by the command line."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from services.cli.main import app
from shared.errors import NotFound
from tests.support.eventually import eventually
from tests.support.samples import WORDS

LABELS = {
    "labels": [
        {"label": label, "description": f"about {' '.join(words)}", "examples": [f"{words[0]} {words[1]}", words[2]]}
        for label, words in WORDS.items()
    ],
    "ambiguous": "choices",
}


@pytest.fixture
def command(released, monkeypatch):
    monkeypatch.setenv("SIGNALBOX_DATA_DIR", str(released.supervisor.settings.data_dir))

    def run(*words):
        return CliRunner().invoke(app, list(words))

    return run


@pytest.fixture
def file(tmp_path):
    written = tmp_path / "Labels of ours.yaml"
    written.write_text(yaml.safe_dump(LABELS))
    return written


def test_a_labels_file_becomes_a_selector_that_is_promoted_and_tried(released, command, file):
    before = released.client.get("/v1/releases/current")["id"]
    done = command("route", "init", str(file), "--promote", "--json")
    job = json.loads(done.stdout)
    assert (done.exit_code, job["state"]) == (0, "succeeded"), done.output
    try:
        assert (job["result"]["selector"], job["result"]["promoted"]) == ("prototypes", True), job["result"]["why"]
        current = released.client.get("/v1/releases/current")
        assert (current["id"], current["ambiguous"]) == (job["result"]["release"], "choices")
        assert current["labels"]["bank.cards"]["description"] == LABELS["labels"][1]["description"]

        def tried():
            return json.loads(command("route", "try", "card limit", "--json").stdout)

        eventually(lambda: tried()["release"] == current["id"], "the new release routes")
        assert tried()["by"] == "prototypes"
        answered = released.ended(released.submit("luggage visa", label="travel.trips"))
        assert answered["state"] == "succeeded"
    finally:
        released.client.post("/v1/releases/rollback", {"to": before})


def test_what_is_not_promoted_at_once_is_offered(command, file):
    done = command("route", "init", str(file))
    assert done.exit_code == 0
    assert "prototypes" in done.stdout
    assert "signalbox releases promote rel_" in done.stderr


def test_adapters_that_are_not_there_are_named_before_anything_is_uploaded(released, command, tmp_path):
    file = tmp_path / "wrong.yaml"
    file.write_text("- {label: bank.cards, adapter: bank.cards@99, description: x}\n- {label: law.ie, description: y}")
    before = len(released.client.get("/v1/datasets")["items"])
    done = command("route", "init", str(file))
    assert isinstance(done.exception, NotFound)
    assert "no adapter of bank.cards (bank.cards@99), law.ie: upload each" in done.exception.detail
    assert len(released.client.get("/v1/datasets")["items"]) == before
