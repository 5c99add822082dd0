"""`python -m services.api.worker`: run the API's background loops until SIGTERM."""

import asyncio
import signal
import sys

import uvloop

from services.api.worker.app import run
from shared.observability.logging import configure_logging, ends_with_a_sentence
from shared.observability.tracing import configure_tracing
from shared.process import collect_garbage_rarely
from shared.redis_servers import check_servers
from shared.settings import Settings


def main() -> None:
    """Read the settings and work."""
    settings = Settings()
    configure_logging("api-worker")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))  # until the loops have their own
    check_servers(settings)
    configure_tracing("api-worker")
    collect_garbage_rarely()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(settings))


if __name__ == "__main__":
    with ends_with_a_sentence("api-worker"):
        main()
