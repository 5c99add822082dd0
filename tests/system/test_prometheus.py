"""A real Prometheus on real processes: it reads every rule, its queries find jobs, its alert a hanging ledger."""

import shutil
import signal

import httpx
import pytest
import yaml
from signalbox import Signalbox

from services.cli.demo.data import DemoData
from services.cli.local.servers import Server, free_ports
from services.cli.local.supervisor import Supervisor
from services.cli.local.up import announce
from shared.settings import Settings
from tests.support.echo_release import publish
from tests.support.eventually import eventually
from tests.support.exported_metrics import FOLDER, PANELS, RULES
from tests.support.system import System

pytestmark = pytest.mark.timeout(400)
GROUPS = "bank,travel,base"
# What one light selector and an echo engine have nothing to show for: language models, training, faults.
SILENT = ("training_", "selector_batch", "selector_loads", "batch_size", "given_up", "refused", "rejects")


class Prometheus:
    """Its server, scraping a system as the overlay `keda` does, and looking at its rules every second."""

    def __init__(self, program, system, folder):
        (port,) = free_ports(1)
        self._url = f"http://127.0.0.1:{port}"
        folder.mkdir()
        shutil.copy(FOLDER / "rules.yml", folder)
        services = [f"127.0.0.1:{child.metrics_port}" for child in system.supervisor.children if child.metrics_port]
        targets = {"api": [system.supervisor.api_url.removeprefix("http://")], "services": services}
        config = {
            "global": {"scrape_interval": "5s", "evaluation_interval": "1s"},
            "rule_files": [str(folder / "rules.yml")],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": found}]} for job, found in targets.items()
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        command = [
            *(program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"),
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        self.server = Server("prometheus", command, folder, self._is_ready)

    def _is_ready(self):
        try:
            return httpx.get(f"{self._url}/-/ready", timeout=2).is_success
        except httpx.TransportError:
            return False

    def ask(self, query):
        """The result of an instant query; an error of Prometheus fails the test."""
        answer = httpx.get(f"{self._url}/api/v1/query", params={"query": query}, timeout=20).json()
        assert answer["status"] == "success", (query, answer)
        return answer["data"]["result"]

    def rules(self):
        groups = httpx.get(f"{self._url}/api/v1/rules", timeout=20).json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is missing: install it to try the rules on a running system")
    folder = tmp_path_factory.mktemp("watched")
    settings = Settings(data_dir=folder / "data", engine="echo", echo_seconds_per_token=0.01, api_port=free_ports(1)[0])
    supervisor = Supervisor(settings, [GROUPS], trainers=0)
    prometheus = None
    try:
        supervisor.start()
        system = System(supervisor, Signalbox(supervisor.api_url, announce(supervisor)))
        supervisor.wait_ready(150)
        publish(supervisor, folder, DemoData())
        prometheus = Prometheus(program, system, folder / "prometheus")
        prometheus.server.start()
        yield system, prometheus
    finally:
        if prometheus:
            prometheus.server.kill()
        supervisor.stop()


def test_every_query_of_rules_and_dashboard_is_answered_and_finds_the_jobs(watched):
    system, prometheus = watched

    def is_counted():
        system.ended(system.submit("my card was declined"))
        return any(
            float(sample["value"][1]) > 0
            for sample in prometheus.ask("sum(rate(signalbox_e2e_request_latency_seconds_count[30s]))")
        )

    eventually(is_counted, "the jobs are scraped", 90)
    assert not [rule for rule in prometheus.rules() if rule["health"] == "err"]
    assert len(prometheus.rules()) == len(RULES)
    eventually(lambda: not unanswered(prometheus), "every panel has samples", 60)  # a rate has none before its second


def unanswered(prometheus):
    queries = [target["expr"].replace("$__rate_interval", "30s") for panel in PANELS for target in panel["targets"]]
    return [query for query in queries if not (any(name in query for name in SILENT) or prometheus.ask(query))]


def test_a_ledger_that_hangs_raises_its_alert(watched):
    system, prometheus = watched
    ledger = system.server("ledger").process
    ledger.send_signal(signal.SIGSTOP)
    try:
        firing = 'ALERTS{alertname="SignalboxLedgerDown", alertstate="firing"}'
        eventually(lambda: prometheus.ask(firing), "the alert fires", 120)
        assert not prometheus.ask('ALERTS{alertname="SignalboxApiAbsent", alertstate="firing"}')
    finally:
        ledger.send_signal(signal.SIGCONT)
    eventually(lambda: not prometheus.ask(firing), "the alert ends", 60)
    system.wait_serving()
    assert system.ended(system.submit("my card was declined"))["state"] == "succeeded"
