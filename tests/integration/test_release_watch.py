"""The watch of the release pointers: every tenant's, by hint and by poll, whatever a listener does."""

import threading

import pytest

from shared.contracts.manifests import Release, Verdict
from shared.errors import Conflict
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from shared.names import DEFAULT_TENANT
from shared.registry import ReleaseWatch

NEVER_SECONDS = 600
PASSED = Verdict(passed=True, reasons=())


def make(registry, tenant_id, parent="", made_by=""):
    release = Release(tenant_id=tenant_id, parent=parent, base_model="base", labels={}, verdict=PASSED, made_by=made_by)
    registry.releases.add(release)
    return release


def promoted(registry, tenant_id, **fields):
    release = make(registry, tenant_id, **fields)
    registry.releases.promote(tenant_id, release.id, force=True)
    return release


class Listener:
    """Keeps what it is called with; a test waits for a release."""

    def __init__(self):
        self.taken = []
        self._changed = threading.Condition()

    def __call__(self, release):
        with self._changed:
            self.taken.append(release)
            self._changed.notify_all()

    def has(self, *releases):
        with self._changed:
            return self._changed.wait_for(lambda: all(release in self.taken for release in releases), 10)


@pytest.fixture
def listener():
    return Listener()


@pytest.fixture
def watching(registry, ledger):
    """Start watches that end with the test."""
    started = []

    def start(on_change, poll_seconds=NEVER_SECONDS, registry=registry):
        watch = ReleaseWatch(registry.releases, ledger.redis, on_change, poll_seconds=poll_seconds)
        started.append(watch)
        watch.start()
        return watch

    yield start
    for watch in started:
        watch.stop()


def subscribed(ledger):
    """Wait until a watch listens for hints."""
    until = threading.Event()
    while not ledger.redis.pubsub_numsub("sb:hint:release")[0][1]:
        until.wait(0.01)


def test_releases_that_are_current_already_are_taken_before_the_watch_runs(registry, watching, listener):
    found = [promoted(registry, tenant_id) for tenant_id in ("b", DEFAULT_TENANT, "a")]
    watch = watching(listener)
    assert listener.taken == [found[1], found[2], found[0]]  # the default tenant's first
    assert watch.releases == listener.taken
    assert watch.current("b").id == found[0].id


def test_a_hint_of_any_tenant_is_enough(registry, ledger, watching, listener):
    watching(listener)
    subscribed(ledger)
    first = promoted(registry, "a")
    second = promoted(registry, "b")
    assert listener.has(first, second)
    assert listener.has(promoted(registry, "a", parent=first.id))


def test_a_lost_hint_costs_one_poll(registry, ledger, watching, listener):
    watching(listener, poll_seconds=0.05)
    noted, default = make(registry, "a"), make(registry, DEFAULT_TENANT)
    ledger.redis.sadd(LedgerKey.TENANTS, "a")
    ledger.redis.set(LedgerKey.RELEASE.of("a"), noted.id)  # the pointers alone, no hints
    ledger.redis.set(LedgerKey.RELEASE.of(DEFAULT_TENANT), default.id)
    assert listener.has(noted, default)


def test_a_promotion_notes_its_tenant_and_a_refused_one_does_not(registry, ledger):
    promoted(registry, "a")
    with pytest.raises(Conflict):
        ledger.do(calls.move_release("b", "rel_x", expected="rel_other", queues=[], by="k"))
    assert registry.releases.tenants() == {"a"}


def test_a_listener_that_crashes_for_one_tenant_takes_the_others_and_is_called_again(registry, watching, listener):
    first, second = promoted(registry, "a"), promoted(registry, "b")
    crashes = iter([RuntimeError("a fault nobody thought of")])

    def adopt(release):
        for crash in crashes:
            raise crash
        listener(release)

    watching(adopt, poll_seconds=0.02)
    assert listener.taken == [second]
    assert listener.has(first)


def test_a_release_that_is_lost_keeps_no_other_tenant_from_theirs(registry, ledger, watching, listener):
    lost, whole = promoted(registry, "a"), promoted(registry, "b")
    raw = ledger.redis.hget(LedgerKey.RELEASES.of("a"), lost.id)
    ledger.redis.hdel(LedgerKey.RELEASES.of("a"), lost.id)
    watch = watching(listener, poll_seconds=0.02)
    assert listener.taken == [whole]
    assert watch.current("a") is None
    ledger.redis.hset(LedgerKey.RELEASES.of("a"), lost.id, raw)
    assert listener.has(lost)


def test_each_release_is_taken_once(registry, ledger, watching, listener):
    first = promoted(registry, "a")
    watch = watching(listener, poll_seconds=0.02)
    second = promoted(registry, "a", parent=first.id)
    assert listener.has(second)
    watch.refresh_all()
    assert listener.taken == [first, second]
