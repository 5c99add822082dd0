"""What `signalbox up` refuses before anything starts."""

import socket

from tests.support.up_process import UpProcess


def test_a_port_that_is_taken_is_refused_before_anything_starts(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        up = UpProcess(tmp_path, SIGNALBOX_API_PORT=str(other.getsockname()[1])).start()
        assert up.process.wait(60) == 1
    assert "port_taken" in up.says
    assert "API http" not in up.says
    assert not up.state.file.exists()
    assert {file.name for file in up.data.rglob("*.log")} == set()


def test_the_first_start_says_that_it_prepares_the_base_model_and_when_that_is_done(tmp_path, tiny_folder):
    nowhere = {"SIGNALBOX_S3_URL": "http://127.0.0.1:1", "SIGNALBOX_S3_SECRET_KEY": "x"}  # it ends when it starts
    up = UpProcess(tmp_path, SIGNALBOX_ENGINE="transformers", SIGNALBOX_BASE_MODEL=str(tiny_folder), **nowhere).start()
    assert up.process.wait(120) == 1
    said = up.says.splitlines()
    assert said[0].startswith("preparing the base model: the first time")
    assert said[1].startswith("the base model is ready (")


def test_a_base_model_that_cannot_be_prepared_is_not_said_to_be_ready(tmp_path):
    up = UpProcess(tmp_path, SIGNALBOX_ENGINE="transformers", SIGNALBOX_BASE_MODEL=str(tmp_path)).start()
    assert up.process.wait(120) == 1
    assert up.says.startswith("preparing the base model")
    assert "is ready" not in up.says
    assert "base_model_unavailable" in up.says


def test_a_folder_of_a_newer_version_is_refused_before_anything_starts(tmp_path):
    up = UpProcess(tmp_path)
    up.data.mkdir()
    (up.data / "VERSION").write_text("2\n")
    up.start()
    assert up.process.wait(60) == 1
    assert "data_newer" in up.says
    assert {file.name for file in up.data.iterdir()} == {"VERSION", "up.lock"}
