"""Code of the product changed in its own processes, by tests alone: a safeguard taken away, or a job made deadly.

Python imports `sitecustomize` at its start from wherever `PYTHONPATH` leads; ours stands in `site`, which only the
processes of a `World` that asks for it have on their path. The product knows nothing of it.
"""

import os
from pathlib import Path

POISON = "poisonpill"
"""A job whose input holds this word kills the worker that runs it, where `poison` is asked for."""
NAMES = "CHAOS_SABOTAGE"
_HERE = Path(__file__).parent


def environment(names: tuple[str, ...]) -> dict[str, str]:
    """What a process needs to be changed in these ways; see `patches`."""
    path = [str(_HERE / "site"), str(_HERE.parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(path), NAMES: ",".join(names)} if names else {}
