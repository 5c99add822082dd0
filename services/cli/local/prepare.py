"""Finds and converts the base model once, in a separate process, so that the supervisor stays small."""

import subprocess
import sys

from shared.errors import Unavailable
from shared.settings import Settings

_PROGRAM = """
import sys
from shared.errors import SignalboxError
from shared.model.base import resolve_base_model
from shared.settings import Settings
try:
    print(resolve_base_model(Settings()))
except SignalboxError as error:
    sys.exit(str(error))
"""


def prepare_base_model(settings: Settings) -> None:
    """Convert or download the base model unless that was done before; raises `Unavailable` with the reason."""
    if settings.engine == "echo":
        return
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no reason given"
        raise Unavailable("base_model_unavailable", f"the base model {settings.base_model!r} is not ready: {reason}")
