"""`python -m services.api`: serve until SIGTERM, then finish the requests in flight."""

import signal
import sys
from types import FrameType

from services.api.app import create_app
from services.api.http.server import allow_open_files, create_server
from shared.observability.logging import configure_logging, ends_with_a_sentence
from shared.observability.tracing import configure_tracing
from shared.process import collect_garbage_rarely
from shared.redis_servers import check_servers
from shared.settings import Settings

STOP_SECONDS = 10
# Threads read records while the event loop answers: with Python's default of 5 ms, a request could wait that long for
# the interpreter lock.
SWITCH_SECONDS = 0.0005


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def main() -> None:
    """Read the settings and serve."""
    settings = allow_open_files(Settings())
    configure_logging("api")
    check_servers(settings)
    configure_tracing("api")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)  # uvicorn raises the signal again once it has stopped gracefully
    sys.setswitchinterval(SWITCH_SECONDS)
    app = create_app(settings)
    collect_garbage_rarely()
    server = create_server(
        app,
        settings,
        host=settings.api_host,
        port=settings.api_port,
        loop="uvloop",
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    server.run()


if __name__ == "__main__":
    with ends_with_a_sentence("api"):
        main()
