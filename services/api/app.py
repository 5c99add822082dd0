"""Builds the API application: settings, then clients, then routers."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.telemetry import TelemetryConfig

from services.api.adapters import router as adapters
from services.api.batches import router as batches
from services.api.console import app as console
from services.api.corpora import router as corpora
from services.api.datasets import router as datasets
from services.api.feedback import router as feedback
from services.api.files import router as files
from services.api.fine_tuning import router as fine_tuning
from services.api.health import router as system
from services.api.http import docs_page, problems
from services.api.http.auth import Authenticator
from services.api.http.body_limit import ExplainTooLarge
from services.api.http.openapi import PROBLEMS, UNREADY
from services.api.http.security_headers import SecurityHeaders
from services.api.http.upload import FORM_BYTES
from services.api.infra.clients import Clients
from services.api.infra.metrics import CountRequests, Metrics
from services.api.infra.rate_limits import RATE_LIMITS
from services.api.infra.retiring import WARNINGS
from services.api.jobs import router as jobs
from services.api.models import router as models
from services.api.openai import router as openai
from services.api.proposals import router as proposals
from services.api.rebases import router as rebases
from services.api.releases import router as releases
from services.api.rollouts import router as rollouts
from services.api.select import router as select
from services.api.templates import router as templates
from services.api.traffic import router as traffic
from services.api.training import router as training
from services.api.usage import router as usage
from services.api.users import router as users
from services.api.webhooks import router as webhooks
from shared.observability import tracing
from shared.settings import Settings

_UNTRACED = {"/healthz", "/readyz", "/metrics"}
"""Probes and scrapes call these paths all the time."""

_PLAIN = (
    jobs,
    openai,
    batches,
    select,
    training,
    fine_tuning,
    releases,
    rebases,
    rollouts,
    proposals,
    templates,
    models,
    usage,
    users,
    feedback,
    traffic,
)
"""Rooms whose bodies are no uploads."""


def create_app(settings: Settings) -> FastAPI:
    """Return the application; its clients live from startup to shutdown, and connect only when they are used."""
    metrics = Metrics()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        clients = Clients.open(settings, metrics)
        clients.releases.start()
        app.state.clients = clients
        app.state.authenticator = Authenticator(clients.ledger.redis)
        yield
        await clients.close()

    app = FastAPI(
        title="Signalbox",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry=request_spans(),
    )
    app.state.metrics = metrics
    problems.install(app)
    docs_page.install(app)
    for router in _PLAIN:
        app.include_router(router.router, max_body_size=settings.max_body_bytes, responses=PROBLEMS)
    app.include_router(webhooks.event_types, max_body_size=settings.max_body_bytes, responses=PROBLEMS)
    for prefix in (webhooks.PREFIX, webhooks.OPENAIS_PREFIX):
        app.include_router(
            webhooks.router,
            prefix=prefix,
            include_in_schema=prefix == webhooks.PREFIX,
            max_body_size=settings.max_body_bytes,
            responses=PROBLEMS,
        )
    for router in (adapters, corpora, datasets, files):
        upload_bytes = settings.max_upload_bytes + FORM_BYTES
        app.include_router(router.router, max_body_size=upload_bytes, responses=PROBLEMS)
    if settings.console:
        app.mount(console.PATH, console.create_console(settings, app.state))
    app.include_router(system.router, max_body_size=settings.max_body_bytes, responses=UNREADY)
    app.add_middleware(ExplainTooLarge)
    app.add_middleware(CountRequests, metrics=metrics)
    if settings.cors_origins:
        app.add_middleware(CORSMiddleware, **_shared_with(settings.cors_origins))
    app.add_middleware(SecurityHeaders)
    return app


def _shared_with(origins: str) -> dict[str, Any]:
    """Let pages of these origins send requests with a key, and read what answers say of themselves."""
    return {
        "allow_origins": [origin.strip() for origin in origins.split(",")],
        "allow_methods": ["GET", "POST", "PUT", "DELETE"],
        "allow_headers": ["*"],
        "expose_headers": ["Location", "Retry-After", "x-request-id", "x-should-retry", *RATE_LIMITS, *WARNINGS],
    }


def request_spans() -> TelemetryConfig:
    """Record a span for each request where this process is traced; the framework's own metrics and logs stay off."""
    return {
        "tracing": tracing.is_on(),
        "tracer_provider": tracing.provider(),
        "exclude": lambda scope: scope["path"] in _UNTRACED,
        "metrics": False,
        "logs": False,
        "operation_spans": False,
        "auto_configure": False,
    }
