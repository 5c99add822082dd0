"""A worker whose engine is away: it takes no jobs, says so, and goes on or ends."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from celery.worker import state as celery_state
from prometheus_client import REGISTRY

from services.adapter_worker import engine_watch
from services.adapter_worker.engine.base import CacheFigures, EngineAway, GenerationRequest
from services.adapter_worker.engine.echo import EchoEngine
from services.adapter_worker.engine_watch import EngineWatch
from shared.contracts.prompts import Segment
from shared.worker.probes import liveness, readiness
from shared.worker.service import Service
from tests.support.engine_kit import ignore
from tests.support.eventually import eventually


@pytest.fixture
def fault(tmp_path):
    return tmp_path / "fault"


@pytest.fixture
def engine(fault):
    return EchoEngine(fault_file=fault)


@pytest.fixture
def service(settings):
    service = Service(settings, "test", ["generate.bank"], concurrency=1)
    service.leases.start()
    yield service
    service.leases.close()


@pytest.fixture
def watch(engine, service, monkeypatch):
    monkeypatch.setattr(engine_watch, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(celery_state, "should_stop", None)  # of this process, which goes on
    watch = EngineWatch(engine, service)
    watch.start()
    yield watch
    watch.stop()


def ready(service):
    return readiness(service.leases, service.settings.broker_url, service.hindrances())


def test_an_engine_that_is_away_holds_jobs_back_until_it_is_back(watch, service, fault):
    assert ready(service).ok
    fault.write_text("away")
    eventually(lambda: not ready(service).ok, "it is not ready")
    assert "work: SIGNALBOX_ECHO_FAULT_FILE says that the engine is away" in ready(service).text
    assert REGISTRY.get_sample_value("signalbox_engine_up") == 0
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(service.turnstile.passes)
        assert not held.done()
        fault.unlink()
        assert held.result(10)
    assert ready(service).ok
    assert REGISTRY.get_sample_value("signalbox_engine_up") == 1


def test_a_job_that_meets_an_engine_that_is_away_has_it_checked_at_once(engine, service, monkeypatch):
    monkeypatch.setattr(engine_watch, "CHECK_SECONDS", 3600)
    watch = EngineWatch(engine, service)
    watch.start()
    watch.note(EngineAway("echo_away", "it was away"))
    assert service.turnstile.passes()  # once the check has found the engine well
    watch.stop()


def test_an_engine_that_is_lost_ends_the_process(watch, service, fault):
    fault.write_text("lost")
    eventually(lambda: service.turnstile.is_broken, "it ends")
    fault.unlink()
    assert not service.turnstile.passes()
    assert "the engine is lost" in service.turnstile.why


def test_an_engine_that_makes_no_step_is_not_alive(watch, engine, service, fault, monkeypatch):
    assert liveness(service.leases, service.stuck_seconds()).ok
    monkeypatch.setattr("shared.worker.probes.STUCK_SECONDS", 0.1)
    fault.write_text("hang")
    with ThreadPoolExecutor(1) as pool:
        request = GenerationRequest(job_id="x", attempt=1, prompt=[Segment("input", "x", is_input=True)], adapter=None)
        running = pool.submit(engine.generate, request, ignore)
        eventually(lambda: not liveness(service.leases, service.stuck_seconds()).ok, "it is stuck")
        fault.unlink()
        running.result(10)
    assert liveness(service.leases, service.stuck_seconds()).ok


class Counting(EchoEngine):
    """An engine whose cache is asked for more and more, and which is started anew in between."""

    def __init__(self):
        super().__init__()
        self._figures = iter([CacheFigures(0.1, 100, 40), CacheFigures(0.2, 150, 60), CacheFigures(0.0, 30, 10)])
        self._last = CacheFigures()

    @property
    def cache(self):
        self._last = next(self._figures, self._last)
        return self._last


def test_what_prompts_find_in_the_cache_is_counted_through_a_restart_of_the_engine(service, monkeypatch):
    def counted():
        names = ("signalbox_prefix_cache_queries_total", "signalbox_prefix_cache_hits_total")
        return tuple(REGISTRY.get_sample_value(name) for name in names)

    monkeypatch.setattr(engine_watch, "CHECK_SECONDS", 0.05)
    queries, hits = counted()
    watch = EngineWatch(Counting(), service)
    watch.start()
    try:
        eventually(lambda: counted() == (queries + 180, hits + 70), "all three looks are counted")
    finally:
        watch.stop()
