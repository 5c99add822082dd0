"""A whole system of real processes on a tiny random model, started once, with short leases so that faults heal fast."""

import pytest
from signalbox import Signalbox

from services.cli.local.folder_lock import holders
from services.cli.local.servers import free_ports
from services.cli.local.supervisor import Supervisor
from services.cli.local.up import announce
from shared.settings import Settings
from tests.support.kernels import share_kernels
from tests.support.samples import TRAINING, WORDS, upload
from tests.support.system import System
from tests.support.tiny_model import save_tiny_model
from tests.support.up_process import UpProcess


@pytest.fixture(scope="package")
def system(tmp_path_factory):
    folder = tmp_path_factory.mktemp("system")
    base = save_tiny_model(folder / "base")
    share_kernels(folder / "data")
    settings = Settings(
        data_dir=folder / "data",
        base_model=str(base),
        api_port=free_ports(1)[0],
        heartbeat_seconds=0.5,
        lease_seconds=3.0,
        reconcile_seconds=0.5,
        lost_after_seconds=2.0,
        drain_seconds=20.0,
        pointer_poll_seconds=0.5,
        engine_dtype="float32",  # as the reference path computes
        gate_min_accuracy=0,  # a tiny random model learns little
        gate_max_loss=0.2,
    )
    supervisor = Supervisor(settings, ["bank,base", "bank,base", "travel"])
    try:
        supervisor.start()
        key = announce(supervisor)
        supervisor.wait_ready(150)
        yield System(supervisor, Signalbox(supervisor.api_url, key))
    finally:
        supervisor.stop()


@pytest.fixture(scope="package")
def released(system):
    """The system with three adapters and a selector, all made by queued training jobs, promoted."""
    for label in WORDS:
        upload(system.client, label)
    for label in WORDS:
        job = system.train({"kind": "adapter.train", "label": label, "dataset": label, **TRAINING})
        assert job["state"] == "succeeded", job["error"]
    labels = {label: label for label in ("bank.accounts", "bank.cards")}
    body = {"kind": "selector.train", "labels": labels, "promote": True, "min_accuracy": 0, **TRAINING}
    job = system.train(body | {"max_false_reject": 0, "selector": "cascade"})
    assert job["state"] == "succeeded", job["error"]
    assert job["result"]["promoted"], job["result"]
    return system


@pytest.fixture
def up(tmp_path):
    """`signalbox up` as a process, in a data folder of its own."""
    system = UpProcess(tmp_path)
    yield system
    for process in holders(system.data):
        process.kill()
