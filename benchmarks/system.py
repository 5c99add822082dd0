"""A running system with the demo's adapters and selector, trained first unless the data folder has them."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from signalbox import Signalbox

from services.cli.demo.data import DemoData
from services.cli.demo.run import train_missing
from services.cli.local.prepare import prepare_base_model
from services.cli.local.supervisor import Supervisor
from services.cli.local.up import announce
from shared.settings import Settings


class Running(NamedTuple):
    """The parts of a running system that benchmarks use."""

    supervisor: Supervisor
    client: Signalbox
    data: DemoData


@contextlib.contextmanager
def demo_system(workers: Sequence[str] = ("bank,base", "travel"), **settings: object) -> Iterator[Running]:
    """Start everything, train what is missing, stop everything."""
    base = Settings(**settings)  # type: ignore[arg-type]
    prepare_base_model(base)
    supervisor = Supervisor(base, workers)
    try:
        supervisor.start()
        client = Signalbox(supervisor.api_url, announce(supervisor))
        supervisor.wait_ready()
        data = DemoData()
        data.upload(client)
        train_missing(client, data)
        yield Running(supervisor, client, data)
    finally:
        supervisor.stop()
