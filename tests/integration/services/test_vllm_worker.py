"""A worker of a vLLM server, by a server of HTTP alone: what it says of itself, and what follows at a promotion."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from services.adapter_worker.app import build_engine
from shared.contracts.manifests import AdapterManifest, Release, ReleaseLabel, Verdict
from shared.errors import Conflict
from shared.ledger.keys import LedgerKey
from shared.model.base import base_model_id
from shared.worker.service import Service
from tests.support.adapter_samples import GOOD


class Serving(BaseHTTPRequestHandler):
    """Says of a base model that it is there, and answers the canary."""

    folder = ""

    def do_GET(self):
        card = {"id": "base", "root": self.folder, "parent": None, "max_model_len": 1024}
        self._answer(json.dumps({"data": [card]}))

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        events = [{"choices": [{"token_ids": [70 + n], "logprobs": {"token_logprobs": [-1.0]}}]} for n in range(4)]
        self._answer("".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n")

    def _answer(self, text):
        self.send_response(200)
        self.send_header("content-length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        """Nothing."""


@pytest.fixture
def url(tiny_folder):
    handler = type("Here", (Serving,), {"folder": str(tiny_folder)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def worker(settings, store, url, tiny_folder):
    """Starts a worker of the groups bank and base, up to its presence."""
    store.ensure_bucket()
    started = []

    def start(**told):
        own = {"engine": "vllm", "vllm_url": url, "base_model": str(tiny_folder), **told}
        service = Service(
            settings.model_copy(update=own), "adapter_worker", ["generate.bank", "generate.base"], concurrency=1
        )
        engine, _, _ = build_engine(service, service.settings)
        service.leases.start()
        started.append((service, engine))
        return service

    yield start
    for service, engine in started:
        service.leases.close()
        engine.close()


@pytest.fixture
def candidate(registry, store, tiny_folder, tmp_path):
    """A release with one adapter of rank 24."""
    store.ensure_bucket()
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name, data in GOOD.items():
        (folder / name).write_bytes(data)
    pin = base_model_id(tiny_folder)
    info = {"rank": 24, "method": "lora"}
    made = AdapterManifest(tenant_id="v", label="bank.cards", version=0, digest="", base_model=pin, info=info)
    stored = registry.adapters.add(folder, made)
    entry = ReleaseLabel(adapter=stored.digest, ref=stored.ref, group="bank", template="plain", instruction="")
    labels, verdict = {"bank.cards": entry}, Verdict(passed=True, reasons=())
    return registry.releases.add(Release(tenant_id="v", base_model=pin, labels=labels, verdict=verdict))


def test_a_worker_tells_the_ledger_what_its_server_takes_and_a_larger_adapter_is_not_promoted_to_it(
    worker, registry, ledger, candidate
):
    small = worker(vllm_max_lora_rank=16)
    told = json.loads(ledger.redis.get(LedgerKey.PROCESS.of(small.owner)))
    assert told["lora"] == {"max_rank": 16, "dora": False}
    with pytest.raises(Conflict, match=r"started with --max-lora-rank 16, and bank\.cards@1 is rank 24") as caught:
        registry.releases.promote("v", candidate)
    assert caught.value.code == "adapter_above_server"
    small.leases.close()
    worker(vllm_max_lora_rank=32)
    assert registry.releases.promote("v", candidate).id == candidate


def test_a_worker_that_was_not_told_of_its_servers_rank_lets_every_rank_pass(worker, registry, candidate):
    worker()
    assert registry.releases.promote("v", candidate).id == candidate
