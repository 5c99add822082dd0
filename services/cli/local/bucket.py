"""The first step of a deployment against an object store: the bucket, and proof that it takes a write."""

import time

from shared.errors import Unavailable
from shared.registry.store import S3Store
from shared.settings import Settings

_PAUSE_SECONDS = 0.5


def make_bucket(settings: Settings, patience_seconds: float) -> None:
    """Make the bucket and write to it; servers open their port before they can. Raises `Unavailable` after a while."""
    store = S3Store(settings)
    until = time.monotonic() + patience_seconds
    while True:
        try:
            store.ensure_bucket()
            store.put("ready", b"1")
        except Unavailable:
            if time.monotonic() > until:
                raise
            time.sleep(_PAUSE_SECONDS)  # the server says nothing when it becomes ready
        else:
            return
