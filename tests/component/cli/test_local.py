"""What the command line says of the system in its data folder, and of itself."""

import json
from importlib.metadata import version

import pytest

from services.cli.local.folder_lock import FILE, lock_folder
from tests.support.up_process import UpProcess


@pytest.fixture
def here(tmp_path):
    return UpProcess(tmp_path, SIGNALBOX_REDIS_URL="redis://127.0.0.1:1/0")


def advice(here):
    found = {finding["what"]: finding["mend"] for finding in json.loads(here.run("doctor", "--json").stdout)}
    return found["ledger"], found["api"]


def test_the_doctor_advises_up_where_nothing_runs(here):
    assert all(mend.startswith("run `signalbox up`") for mend in advice(here))


def test_the_doctor_does_not_advise_up_while_it_runs(here):
    with lock_folder(here.data):
        assert all("`signalbox up` runs here" in mend for mend in advice(here))


def test_the_doctor_advises_down_where_the_supervisor_was_killed(here):
    with lock_folder(here.data):
        (here.data / FILE).write_text("1")
        assert all("run `signalbox down`, then `signalbox up`" in mend for mend in advice(here))


def test_the_command_says_its_version(here):
    assert here.run("--version").stdout == f"signalbox {version('signalbox')}\n"
