"""`signalbox demo` as a process: Ctrl-C ends it cleanly."""

import functools
import os
import signal
import subprocess

import pytest

from services.cli.local.folder_lock import holders, is_locked
from services.cli.local.servers import free_ports
from tests.support.eventually import eventually
from tests.support.tiny_model import save_tiny_model
from tests.support.up_process import PROGRAM

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def demo(tmp_path):
    """A demo that has begun to start its processes, what it has said so far, and its data folder."""
    data, said = tmp_path / "data", tmp_path / "demo.txt"
    environment = os.environ | {
        "SIGNALBOX_DATA_DIR": str(data),
        "SIGNALBOX_BASE_MODEL": str(save_tiny_model(tmp_path / "base")),
        "SIGNALBOX_API_PORT": str(free_ports(1)[0]),
    }
    with said.open("w") as output:
        # A test run in the background may ignore the signal, and its children would, too.
        heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        streams = {"stdout": output, "stderr": output}
        process = subprocess.Popen([PROGRAM, "demo"], env=environment, preexec_fn=heed, **streams)  # noqa: PLW1509
    yield process, said, data
    for holder in holders(data):
        holder.kill()
    process.wait()


def test_ctrl_c_while_the_system_starts_ends_every_process_and_says_so(demo):
    process, said, data = demo
    eventually(lambda: len(holders(data)) > 3, "its processes start", 120)

    process.send_signal(signal.SIGINT)

    assert process.wait(120) == 130, said.read_text()
    lines = said.read_text()
    assert lines.startswith("Signalbox on this machine")
    assert "1 of 4: start" in lines
    assert "stopped by Ctrl-C" in lines
    assert "Traceback" not in lines
    assert not is_locked(data)
