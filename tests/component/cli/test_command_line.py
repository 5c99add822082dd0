"""The command line as a person meets it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).parent / "signalbox"


def run(*args, data_dir, **env):
    environment = {"PATH": "/usr/bin:/bin", "SIGNALBOX_DATA_DIR": str(data_dir), **env}
    return subprocess.run([PROGRAM, *args], capture_output=True, text=True, env=environment, check=False)


def test_help_names_every_command(tmp_path):
    shown = run("--help", data_dir=tmp_path).stdout
    for command in (
        "up",
        "demo",
        "submit",
        "run-reference",
        "jobs",
        "adapters",
        "datasets",
        "train",
        "evaluate",
        "releases",
        "keys",
        "secrets",
        "bucket",
        "trainer",
        "k8s",
        "doctor",
    ):
        assert command in shown


def test_without_a_system_a_command_says_what_to_start(tmp_path):
    done = run("submit", "hello", data_dir=tmp_path)
    assert done.returncode == 1
    assert "signalbox up" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_api_that_does_not_answer_is_one_sentence(tmp_path):
    away = {"SIGNALBOX_API_URL": "http://127.0.0.1:1", "SIGNALBOX_API_KEY": "x"}
    done = run("jobs", "list", data_dir=tmp_path, **away)
    assert (done.returncode, "api_unreachable" in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def test_the_doctor_names_what_is_missing_and_how_to_mend_it(tmp_path):
    done = run("doctor", "--json", data_dir=tmp_path, SIGNALBOX_REDIS_URL="redis://127.0.0.1:1/0")
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 1
    assert not findings["ledger"]["ok"]
    assert findings["ledger"]["mend"]
    assert findings["package torch"]["ok"]


@pytest.mark.parametrize("label", ["no-equals", "bank.cards"])
def test_a_selector_label_without_a_data_set_is_refused(tmp_path, label):
    done = run("train", "selector", "--label", label, data_dir=tmp_path)
    assert done.returncode == 2
    assert "label=dataset" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--add", "--balance", "--label", "a.b=d"),
        ("--delete", "a.b", "--label", "a.b=d"),
        ("--delete", "a.b", "--add"),
    ],
)
def test_a_selector_is_trained_added_to_balanced_or_cut_and_not_two_at_once(tmp_path, arguments):
    done = run("train", "selector", *arguments, data_dir=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_reference_run_without_texts_says_how_to_give_them(tmp_path):
    done = run("run-reference", data_dir=tmp_path)
    assert done.returncode == 2
    assert "--data FILE" in done.stderr


@pytest.mark.parametrize("command", [("run-reference", "hello"), ("evaluate", "system", "--data", "examples/data")])
def test_what_reads_the_registry_says_what_to_start(tmp_path, command):
    done = run(*command, data_dir=tmp_path, SIGNALBOX_REDIS_URL="redis://127.0.0.1:1/0")
    assert (done.returncode, "signalbox up" in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def test_a_confusion_matrix_is_drawn_into_a_png_alone(tmp_path):
    done = run("evaluate", "selector", "--data", "examples/data", "--confusion", "out.json", data_dir=tmp_path)
    assert done.returncode == 2
    assert "confusion.png" in done.stderr


def test_a_setting_that_is_wrong_is_one_sentence_that_names_it(tmp_path):
    wrong = {
        "SIGNALBOX_REDIS_URL": "rediss://u:s3cret@h/0",
        "SIGNALBOX_REDIS_CA_FILE": "/nope",
        "SIGNALBOX_WORKER_SLOTS": "0",
    }
    done = run("doctor", data_dir=tmp_path, **wrong)
    said = " ".join(done.stderr.split())
    assert done.returncode == 1
    assert "SIGNALBOX_REDIS_CA_FILE: /nope cannot be read; mount it" in said
    assert "SIGNALBOX_WORKER_SLOTS: " in said
    assert "Traceback" not in said
    assert "s3cret" not in done.stdout + done.stderr


def test_an_api_without_a_key_is_said_to_ask_for_one(tmp_path):
    done = run("jobs", "list", data_dir=tmp_path, SIGNALBOX_API_URL="http://127.0.0.1:1")
    assert (done.returncode, "key_missing" in done.stderr, "SIGNALBOX_API_KEY" in done.stderr) == (1, True, True)


def test_the_doctor_of_a_system_elsewhere_looks_for_nothing_here(tmp_path):
    done = run("doctor", "--json", data_dir=tmp_path, SIGNALBOX_API_URL="http://127.0.0.1:1")
    assert [finding["what"] for finding in json.loads(done.stdout)] == ["api"]


def test_what_the_doctor_advises_is_printed_whole(tmp_path):
    from services.cli import output

    with output.out.capture() as captured:
        output.findings([{"what": "x", "ok": False, "says": "[a]", "mend": "pip install '.[worker]'"}], as_json=False)
    assert "'.[worker]'" in captured.get()


@pytest.mark.parametrize("content", ["{", "3"])
def test_settings_that_are_no_json_object_are_refused(tmp_path, content):
    file = tmp_path / "settings.json"
    file.write_text(content)
    away = {"SIGNALBOX_API_URL": "http://127.0.0.1:1", "SIGNALBOX_API_KEY": "x"}
    done = run("train", "adapter", "--label", "a.b", "--dataset", "d", "--settings", file, data_dir=tmp_path, **away)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)


@pytest.mark.parametrize("holds", [[], ["adapter_config.json"], ["adapter_model.bin"]])
def test_a_folder_that_is_no_adapter_is_one_line(tmp_path, holds):
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name in holds:
        (folder / name).write_text("{}")
    away = {"SIGNALBOX_API_URL": "http://127.0.0.1:1", "SIGNALBOX_API_KEY": "x"}
    done = run("adapters", "add", folder, "--label", "a.b", data_dir=tmp_path, **away)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "adapter_file_missing" in done.stderr


@pytest.mark.parametrize("service", ["selector", "adapter_worker", "trainer", "api"])
def test_a_service_with_a_wrong_setting_ends_with_one_line(tmp_path, service):
    environment = {"PATH": "/usr/bin:/bin", "SIGNALBOX_DATA_DIR": str(tmp_path), "SIGNALBOX_LEASE_SECONDS": "abc"}
    command = [sys.executable, "-m", f"services.{service}"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    (line,) = map(json.loads, done.stderr.splitlines())
    assert (done.returncode, line["code"], line["service"]) == (1, "settings_invalid", service)
    assert "SIGNALBOX_LEASE_SECONDS" in line["error"]
