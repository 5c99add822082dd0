"""`signalbox adapters` against the real API: what an upload's check did is said."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME
from tests.support.adapter_samples import BASE, CONFIG, lora_tensors, safetensors

PROGRAM = Path(sys.executable).parent / "signalbox"


@pytest.fixture
def folder(tmp_path):
    """An adapter as Unsloth leaves it in a hub cache: links to blobs, a tokenizer beside."""
    cache, made = tmp_path / "blobs", tmp_path / "adapter"
    cache.mkdir()
    made.mkdir()
    config = {**CONFIG, "auto_mapping": {"unsloth_fixed": True}, "base_model_name_or_path": "org/Other-9B"}
    files = {
        CONFIG_NAME: json.dumps(config).encode(),
        WEIGHTS_NAME: safetensors(lora_tensors()),
        "tokenizer.json": b"{}",
    }
    for name, data in files.items():
        (cache / name).write_bytes(data)
        (made / name).symlink_to(cache / name)
    return made


@pytest.fixture
def run(api, tokens, tmp_path):
    environment = os.environ | {
        "SIGNALBOX_API_URL": api["url"],
        "SIGNALBOX_API_KEY": tokens["train"],
        "SIGNALBOX_DATA_DIR": str(tmp_path),
    }

    async def run(*words):
        done = await asyncio.to_thread(
            subprocess.run, [PROGRAM, *words], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        return done.returncode, done.stdout + done.stderr

    return run


async def test_what_was_done_to_an_adapter_is_said_when_it_is_added_and_shown(run, base, folder):
    status, said = await run("adapters", "add", folder, "--label", "fin.sa")
    notes = "auto_mapping is dropped: it names a class that is never imported here; its config names 'org/Other-9B'"
    assert (status, notes in said) == (0, True)
    assert notes in (await run("adapters", "show", "fin.sa@1"))[1]
    assert len(json.loads((await run("adapters", "show", "fin.sa@1", "--json"))[1])["notes"]) == 2
    lines = [line.split("\t") for line in (await run("adapters", "list"))[1].splitlines()]
    row = dict(zip(*lines, strict=True))
    assert (row["template"], row["notes"]) == ("chatml", "2")


async def test_an_adapter_is_exported_into_a_new_folder_and_taken_again(run, base, folder, tmp_path):
    await run("adapters", "add", folder, "--label", "fin.sa")
    status, said = await run("adapters", "export", "fin.sa", "--out", tmp_path / "out", "--json")
    assert status == 0, said
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["README.md", CONFIG_NAME, WEIGHTS_NAME]
    status, again = await run("adapters", "add", tmp_path / "out", "--label", "fin.ha", "--json")
    assert (status, json.loads(again)["digest"]) == (0, json.loads(said)["digest"])
    status, said = await run("adapters", "export", "fin.sa", "--out", tmp_path / "out")
    assert (status, "folder_not_empty" in said or "is not empty" in said) == (1, True)


async def test_another_known_base_model_needs_a_word(run, base, store, folder):
    store.put("base/other.json", json.dumps({"id": "other", "name": "Other-9B", "shapes": BASE.to_dict()}).encode())
    status, said = await run("adapters", "add", folder, "--label", "fin.sa")
    assert (status, "adapter_base_mismatch" in said, "--i-know" in said) == (1, True, True)
    status, said = await run("adapters", "add", folder, "--label", "fin.sa", "--i-know")
    assert (status, "its sender confirmed this one" in said) == (0, True)


async def test_the_folders_of_a_labels_file_are_uploaded_as_its_labels_once(
    api, admin, base, command, folder, tmp_path
):
    """`signalbox route init` with PEFT folders beside the file, up to the job that trains with them."""
    labels = {"support": {"adapter": "adapter", "description": "asks for help"}, "fin.sa": {"examples": ["good news"]}}
    (tmp_path / "labels.yaml").write_text(json.dumps({"labels": labels}))
    status, said = await asyncio.to_thread(ended, command("route", "init", "labels.yaml"))
    assert (status, "no adapter of fin.sa: upload each" in said) == (1, True)
    assert (await admin.get("/v1/adapters")).json()["items"] == []
    (tmp_path / "empty").mkdir()
    labels["fin.sa"]["adapter"] = "./empty"
    (tmp_path / "labels.yaml").write_text(json.dumps({"labels": labels}))
    status, said = await asyncio.to_thread(ended, command("route", "init", "labels.yaml"))
    assert (status, "support: support@1, asked by the template chatml" in said) == (1, True)
    assert "fin.sa: empty is not taken adapter_file_missing" in said
    labels["fin.sa"] |= {"adapter": "./adapter", "template": "alpaca", "instruction": "Judge."}
    (tmp_path / "labels.yaml").write_text(json.dumps({"labels": labels}))
    for version in (1, 2):  # uploaded; then stored already, also under a template that was set since
        process = command("route", "init", "labels.yaml")
        while not (jobs := (await admin.get("/v1/training/jobs?state=queued")).json()["items"]):
            assert process.poll() is None, process.communicate()
        trained = (await admin.get(f"/v1/training/jobs/{jobs[0]['id']}")).json()["request"]
        assert trained["adapters"] == {"support": f"support@{version}", "fin.sa": "fin.sa@1"}
        assert (trained["labels"]["support"], trained["descriptions"]) == (None, {"support": "asks for help"})
        assert (trained["templates"], trained["instructions"]) == ({"fin.sa": "alpaca"}, {"fin.sa": "Judge."})
        stored = (await admin.get("/v1/adapters/fin.sa@1")).json()
        assert (stored["template"], stored["instruction"]) == ("alpaca", "Judge.")
        assert (await admin.delete(f"/v1/training/jobs/{jobs[0]['id']}")).status_code == 200
        assert (await asyncio.to_thread(ended, process))[0] == 1
        again = ("adapters", "add", "adapter", "--label", "support", "--template", "alpaca")
        assert (await asyncio.to_thread(ended, command(*again)))[0] == 0
    assert len((await admin.get("/v1/adapters")).json()["items"]) == 3


def ended(process):
    said = process.communicate(timeout=60)
    return process.returncode, " ".join(said[1].split())
