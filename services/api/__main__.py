"""`python -m services.api`: serve until SIGTERM, then let requests in flight finish."""

import socket

import uvicorn

from services.api.app import create_app
from shared.settings import Settings
from shared.telemetry import configure_logging

STOP_SECONDS = 10


class Server(uvicorn.Server):
    """Ends event streams first: they would hold the shutdown up, and their clients know where to go on."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the streams, then stop as usual."""
        parts = getattr(self.config.app.state, "parts", None)  # type: ignore[union-attr]
        if parts is not None:
            await parts.feed.close()
        await super().shutdown(sockets)


def main() -> None:
    """Read the settings and serve."""
    settings = Settings()
    configure_logging("api")
    config = uvicorn.Config(
        create_app(settings),
        host=settings.api_host,
        port=settings.api_port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    Server(config).run()


if __name__ == "__main__":
    main()
