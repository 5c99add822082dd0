"""What `make` deletes, and what it asks before."""

import shutil
import subprocess

import pytest

from tests.support.source import ROOT


@pytest.fixture
def make(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data" / "key").write_text("sbk_1")

    def run(target, said="", **variables):
        options = [f"{name}={value}" for name, value in variables.items()]
        command = ["make", "-C", str(tmp_path), target, *options]
        return subprocess.run(command, input=said, capture_output=True, text=True, check=False, timeout=20)

    return run


def test_clean_removes_environments_and_keeps_the_data(make, tmp_path):
    assert make("clean").returncode == 0
    assert not (tmp_path / ".venv").exists()
    assert (tmp_path / ".data" / "key").read_text() == "sbk_1"


@pytest.mark.parametrize("said", ["", "no\n", "y\n"])
def test_the_data_stay_unless_somebody_says_yes(make, tmp_path, said):
    assert make("clean-data", said).returncode != 0
    assert (tmp_path / ".data" / "key").exists()


def test_whoever_says_yes_deletes_the_data_folder_and_no_other(make, tmp_path):
    (tmp_path / "other").mkdir()
    assert make("clean-data", "yes\n", SIGNALBOX_DATA_DIR="other").returncode == 0
    assert (not (tmp_path / "other").exists(), (tmp_path / ".data").exists()) == (True, True)
    assert make("clean-data", "yes\n").returncode == 0
    assert not (tmp_path / ".data").exists()


def test_the_data_of_a_running_system_stay(make, tmp_path):
    (tmp_path / ".data" / "up.json").write_text("{}")
    refused = make("clean-data", "yes\n")
    assert "make down" in refused.stderr
    assert (tmp_path / ".data" / "key").exists()
