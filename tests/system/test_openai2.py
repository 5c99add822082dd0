"""The tests of `test_openai.py` under the version before of the `openai` package, in an environment of its own."""

import os
import subprocess
from pathlib import Path

import pytest

from shared.security import api_keys
from shared.security.api_keys import Scope

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("SIGNALBOX_TEST_OPENAI2", ROOT / ".venv-openai2" / "bin" / "python"))


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON.exists(), reason="`make test-openai2` makes its environment")
def test_version_2_of_the_package_gets_the_same(released):
    _, key = api_keys.create(released.redis, frozenset({Scope.ADMIN}))
    reached = {"SIGNALBOX_API_URL": released.supervisor.api_url, "SIGNALBOX_API_KEY": key}
    # Nothing of this project is there: neither its plugins nor its conftest.
    alone = ("-c", os.devnull, "--noconftest", "--import-mode=importlib", "-p", "no:cacheprovider", "-rs")
    version = subprocess.run(
        [PYTHON, "-c", "import openai; print(openai.__version__)"], capture_output=True, text=True, check=True
    )
    assert version.stdout.startswith("2.")
    run = subprocess.run(
        [PYTHON, "-m", "pytest", *alone, ROOT / "tests/system/test_openai.py"],
        env={"PATH": os.environ["PATH"], **reached},
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "skipped" not in run.stdout
