"""The HTTP server: uvicorn with bounded connections."""

import functools
import resource
import socket
import time
from typing import Any

import uvicorn
from fastapi import FastAPI

from services.api.http.connections import Bounds, Connection
from shared.settings import Settings

OTHER_FILES = 256
"""Open files beside connections: of the program, of its clients and of uploads."""


class Server(uvicorn.Server):
    """Watches its connections; at the end it closes event streams first, for they would delay the shutdown."""

    async def on_tick(self, counter: int) -> bool:
        """Look once a second at what each connection's client owes."""
        if counter % 10 == 0:
            for connection in list(self.server_state.connections):
                connection.look(time.monotonic())  # type: ignore[union-attr]
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the streams, whose clients can resume them, then stop as usual."""
        clients = getattr(self.config.app.state, "clients", None)  # type: ignore[union-attr]
        if clients is not None:
            await clients.feed.close()
        await super().shutdown(sockets)


def create_server(app: FastAPI, settings: Settings, **config: Any) -> Server:
    """Return the server of an application."""
    bounds = Bounds(settings, app.state.metrics.count_refusal)
    return Server(
        uvicorn.Config(
            app,
            http=functools.partial(Connection, bounds=bounds),  # type: ignore[arg-type] # any callable that makes one
            ws="none",  # another protocol's connections would be out of bounds
            access_log=False,
            # Only what a trusted proxy says of the client's address and scheme counts.
            forwarded_allow_ips=settings.trusted_proxies,
            log_config=None,
            **config,
        )
    )


def allow_open_files(settings: Settings) -> Settings:
    """Raise the limit of open files for all connections; where it cannot be raised as far, lower theirs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.max_connections + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        wanted = soft
    return settings.model_copy(update={"max_connections": max(1, wanted - OTHER_FILES)})
