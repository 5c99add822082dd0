"""What runs for minutes in `make` says that it goes on."""

import os
import subprocess
from pathlib import Path

SAY = Path(__file__).parents[3] / ".ci" / "say"


def say(*command, every="10"):
    environment = os.environ | {"SAY_EVERY": every}
    return subprocess.run(
        [SAY, "installing it", *command], capture_output=True, text=True, env=environment, check=False
    )


def test_it_says_what_is_done_before_it_is_done():
    assert say("echo", "done").stdout == "installing it\ndone\n"


def test_it_says_again_and_again_that_it_goes_on():
    said = say("sleep", "0.5", every="0.1").stdout.splitlines()
    assert said[0] == "installing it"
    assert len(said) > 1
    assert all(line.startswith("installing it, ") for line in said[1:])


def test_the_status_is_that_of_the_command():
    assert say("sh", "-c", "exit 3").returncode == 3
