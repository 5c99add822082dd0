"""The first step of a deployment with an object store: creates the bucket, checks that it takes and keeps objects."""

import time

from shared.errors import Unavailable
from shared.registry.store import S3Store
from shared.settings import Settings

_PAUSE_SECONDS = 0.5


def make_bucket(settings: Settings, patience_seconds: float) -> None:
    """Create the bucket and write to it; retries, and raises `Unavailable` after `patience_seconds`.

    Raises `Invalid` where the bucket would delete what it holds.
    """
    store = S3Store(settings)
    until = time.monotonic() + patience_seconds
    while True:
        try:
            store.ensure_bucket()
            store.put("ready", b"1")
            store.check_lifecycle()
        except Unavailable:
            if time.monotonic() > until:
                raise
            time.sleep(_PAUSE_SECONDS)  # servers open their port before they accept writes, and announce nothing
        else:
            return
