"""The API, wired by hand: settings, then clients, then routers."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from services.api import problems
from services.api.auth import Authenticator
from services.api.bodies import ExplainTooLarge
from services.api.documented import PROBLEMS, UNREADY
from services.api.metrics import CountRequests, Metrics
from services.api.parts import Parts
from services.api.routers import adapters, datasets, jobs, models, releases, select, system, training
from shared.settings import Settings

# Room for the form around an uploaded file.
_FORM_BYTES = 64 << 10


def create_app(settings: Settings) -> FastAPI:
    """The application; its clients live from startup to shutdown, and none of them has to answer at startup."""
    metrics = Metrics()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        parts = Parts.open(settings, metrics)
        app.state.parts = parts
        app.state.authenticator = Authenticator(parts.ledger.redis)
        yield
        await parts.close()

    app = FastAPI(title="Signalbox", version="1", lifespan=lifespan)
    problems.install(app)
    for router in (jobs, select, training, releases, models):
        app.include_router(router.router, max_body_size=settings.max_body_bytes, responses=PROBLEMS)
    for router in (adapters, datasets):
        upload_bytes = settings.max_upload_bytes + _FORM_BYTES
        app.include_router(router.router, max_body_size=upload_bytes, responses=PROBLEMS)
    app.include_router(system.router, max_body_size=settings.max_body_bytes, responses=UNREADY)
    app.add_middleware(ExplainTooLarge)
    app.add_middleware(CountRequests, metrics=metrics)
    return app
