"""`signalbox adapters import` against the real API: many folders, and a second run that goes on."""

import asyncio
import json

import pytest

from services.cli.main import main
from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME
from shared.ledger import calls
from tests.support.adapter_samples import CONFIG, lora_tensors, safetensors

NAMES = ("Support Bot", "billing", "bank.cards")


@pytest.fixture
def folder(tmp_path):
    """Three adapters, and one with a tensor of another base model."""
    for number, name in enumerate(NAMES):
        add(tmp_path / "all" / name, safetensors(lora_tensors(), fill=number + 1))
    add(tmp_path / "all" / "wrong", safetensors(lora_tensors(rank=3)))
    return tmp_path / "all"


def add(folder, weights):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_NAME).write_text(json.dumps(CONFIG))
    (folder / WEIGHTS_NAME).write_bytes(weights)


@pytest.fixture
def run(api, tokens, tmp_path, monkeypatch, capsys):
    """Imports what these sources hold; answers the exit status, standard output and standard error."""
    monkeypatch.setenv("SIGNALBOX_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SIGNALBOX_API_URL", api["url"])
    monkeypatch.setenv("SIGNALBOX_API_KEY", tokens["admin"])

    async def run(*words):
        monkeypatch.setattr("sys.argv", ["signalbox", "adapters", "import", *map(str, words)])
        capsys.readouterr()
        try:
            await asyncio.to_thread(main)
        except SystemExit as end:
            return int(end.code or 0), *capsys.readouterr()

    return run


async def test_one_that_fails_stops_no_other_and_a_second_run_sends_only_what_is_missing(run, base, folder, registry):
    status, out, err = await run(folder)
    assert status == 1
    states = {cells[0]: cells[1] for cells in (line.split("\t") for line in out.splitlines()[1:])}
    assert states == {"support-bot": "added", "billing": "added", "bank.cards": "added", "wrong": "failed"}
    assert "4/4 wrong: failed (" in err
    add(folder / "wrong", safetensors(lora_tensors(), fill=9))
    uploads = registry.adapters.list_all("default")
    status, out, _ = await run(folder, "--json")
    found = json.loads(out)
    assert (status, found["added"], found["unchanged"], found["failed"]) == (0, 1, 3, 0)
    assert len(registry.adapters.list_all("default")) == len(uploads) + 1
    assert {one["adapter"] for one in found["adapters"]} == {
        *(f"{label}@1" for label in ("support-bot", "billing", "bank.cards", "wrong"))
    }


async def test_a_folder_without_a_label_fails_alone(run, base, folder, registry):
    add(folder / "None", safetensors(lora_tensors(), fill=7))
    status, out, err = await run(folder, "--json")
    found = json.loads(out)
    assert (status, found["added"], found["failed"]) == (1, 3, 2)
    (lost,) = [one for one in found["adapters"] if one["label"] is None]
    assert (lost["state"], "no label can be proposed for" in lost["reason"]) == ("failed", True)
    assert "None: failed (no label can be proposed" in err
    assert len(registry.adapters.list_all("default")) == 3


async def test_what_was_stored_by_another_archive_is_unchanged_and_another_template_is_a_version(run, base, folder):
    await run(folder / "billing")
    (folder / "billing" / CONFIG_NAME).write_text(json.dumps(CONFIG, indent=3))  # the same adapter in other bytes
    assert (await run(folder / "billing"))[1].splitlines()[1].split("\t")[1:3] == ["unchanged", "billing@1"]
    table = folder / "adapters.tsv"
    table.write_text("folder\tlabel\ttemplate\nbilling\tbilling\tplain\n")
    assert (await run(table))[1].splitlines()[1].split("\t")[1:3] == ["added", "billing@2"]
    assert (await run(folder / "billing"))[1].splitlines()[1].split("\t")[1:3] == ["unchanged", "billing@2"]


async def test_an_import_with_a_release_makes_all_of_it_askable_in_one_promotion(api, run, base, folder, ledger):
    table = folder / "adapters.tsv"
    table.write_text("folder\tgroup\n" + "".join(f"{name}\t{'fin' * (name == 'billing')}\n" for name in NAMES))
    status, _, err = await run(table, "--release")
    assert (status, "release_refused" in err) == (1, True)  # nobody serves the groups
    queues = [f"generate.{group}" for group in ("default", "bank", "fin", "base")]
    ledger.do(calls.heartbeat("worker", [*queues, *(f"{queue}@tiny" for queue in queues)], [], {}, 60))
    status, out, err = await run(table, "--release", "--json")
    found = json.loads(out)
    assert (status, found["unchanged"]) == (0, 3), err
    current = (await api["submit"].get("/v1/releases/current")).json()
    assert found["release"] == current["id"]
    assert {label: entry["group"] for label, entry in current["labels"].items()} == {
        "bank.cards": "bank",
        "billing": "fin",
        "support-bot": "default",
    }
    job = (await api["submit"].post("/v1/jobs", json={"input": "x", "label": "support-bot"})).json()
    assert (job["state"], job["label"]) == ("routed", "support-bot")
    assert json.loads((await run(table, "--release", "--json"))[1])["release"] == current["id"]
    assert len((await api["submit"].get("/v1/releases")).json()["items"]) == 2


async def test_two_folders_of_one_label_are_refused_before_anything_is_sent(run, base, folder, registry):
    add(folder / "support bot", safetensors(lora_tensors()))
    status, _, err = await run(folder)
    assert (status, "labels_alike" in err, registry.adapters.list_all("default")) == (1, True, [])
