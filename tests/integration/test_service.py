"""What every Celery service does beside its jobs."""

import json
import threading

from shared.errors import Unavailable
from shared.service import Service, publish_base_model
from shared.store import FolderStore


class Returning(FolderStore):
    """A store that is away for its first two calls."""

    calls_refused = 0

    def _path(self, key):
        if self.calls_refused < 2:
            self.calls_refused += 1
            raise Unavailable("store_unavailable", "the object store is away")
        return super()._path(key)


def test_a_base_model_is_published_once_the_store_comes(settings, tmp_path):
    quick = settings.model_copy(update={"pointer_poll_seconds": 0.01})
    service = Service(quick, "test", ["generate.g"], concurrency=1)
    service.store = Returning(tmp_path / "store")
    publish_base_model(service, "base", {"layers": 1})
    for thread in threading.enumerate():
        if thread.name == "publish-base-model":
            thread.join(10)
    assert service.ledger.redis.get("sb:base_model") == "base"
    assert json.loads(service.store.get("base/base.json")) == {"id": "base", "shapes": {"layers": 1}}
