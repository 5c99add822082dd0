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


def test_a_folder_of_a_newer_version_is_refused_before_anything_starts(tmp_path):
    up = UpProcess(tmp_path)
    up.data.mkdir()
    (up.data / "VERSION").write_text("2\n")
    up.start()
    assert up.process.wait(60) == 1
    assert "data_newer" in up.says
    assert {file.name for file in up.data.iterdir()} == {"VERSION", "up.lock"}
