"""The watch of the release pointer outlives what its listener does."""

import threading

from shared.contracts.manifests import Release, Verdict
from shared.ledger.keys import LedgerKey
from shared.registry import ReleaseWatch


def test_a_listener_that_crashes_does_not_end_the_watch(registry, ledger):
    release = Release(tenant_id="t", base_model="base", labels={}, verdict=Verdict(passed=True, reasons=()))
    calls, adopted = [], threading.Event()

    def adopt(_):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("a fault nobody thought of")
        adopted.set()

    watch = ReleaseWatch(registry, ledger.redis, "t", adopt, poll_seconds=0.02)
    watch.start()
    ledger.redis.hset(LedgerKey.RELEASES.of("t"), release.id, release.model_dump_json())
    ledger.redis.set(LedgerKey.RELEASE.of("t"), release.id)
    assert adopted.wait(10)
    watch.stop()
