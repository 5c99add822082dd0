"""The worker's gauges are what the engine says when they are read."""

from prometheus_client import REGISTRY

from services.adapter_worker.app import measure
from services.adapter_worker.infra.engines import GenerationRequest
from services.adapter_worker.infra.engines.echo import EchoEngine


def gauges():
    names = ("signalbox_num_requests_running", "signalbox_adapters_resident")
    return tuple(REGISTRY.get_sample_value(name) for name in names)


def test_the_gauges_follow_the_engine(kit, tmp_path):
    engine, seen = EchoEngine(), []
    measure(engine)
    assert gauges() == (0, 0)
    engine.load_adapter("a" * 64, tmp_path)
    request = GenerationRequest(job_id="job", attempt=1, prompt=kit.prompt("one"), adapter=None)
    engine.generate(request, lambda _: seen.append(gauges()))
    assert seen[0] == (1, 1)
    assert gauges() == (0, 1)
