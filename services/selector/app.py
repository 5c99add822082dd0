"""The selector service, wired by hand: settings, clients, models, handlers, task, worker."""

from pathlib import Path

import structlog

from services.selector import metrics
from services.selector.handlers import select
from services.selector.scoring.batcher import Batcher
from services.selector.scoring.light import LightSelectors
from services.selector.scoring.llm import LlmScorers
from shared.contracts.jobs import Job
from shared.contracts.manifests import Release, ReleaseSelector
from shared.errors import SignalboxError
from shared.model.base import resolve_base_model
from shared.model.hardware import limit_threads
from shared.names import DEFAULT_TENANT, SELECT_QUEUE, TaskName
from shared.observability.logging import configure_logging
from shared.observability.tracing import configure_tracing
from shared.registry import ReleaseWatch
from shared.settings import Settings
from shared.worker.leases import HeldJob
from shared.worker.service import Service, end_on_sigterm

log = structlog.get_logger()


def main() -> None:
    """Run until SIGTERM."""
    end_on_sigterm()
    configure_logging("selector")
    configure_tracing("selector")
    settings = Settings()
    # Twice the batch: one batch is scored while the next one gathers.
    service = Service(settings, "selector", [SELECT_QUEUE], concurrency=2 * settings.selector_batch)
    lights = LightSelectors(service.registry.fetch_light)
    scorers = LlmScorers(
        lambda: _base_folder(settings),
        service.registry.fetch_weights,
        dtype=settings.dtype,
        max_tokens=settings.max_prompt_tokens,
        on_load=metrics.LOADS.inc,
    )
    batcher = Batcher(scorers.score_many, max_batch=settings.selector_batch, max_wait_ms=settings.selector_wait_ms)

    def warm(release: Release) -> None:
        """Load a new release's selector before the first request needs it."""
        service.info["release"] = release.id
        with scorers.in_use(release.tenant_id, release.selector):
            try:
                if release.selector:
                    lights.load(release.selector)
                if release.selector and release.selector.llm:
                    batcher.score(release.selector, "warm-up")
            except SignalboxError as error:  # a request for it tries again, and fails with this error if it must
                log.error("selector_not_loaded", release=release.id, code=error.code, error=error.detail)
            else:
                log.info("release_loaded", release=release.id)
            scorers.make_current(release.tenant_id, release.selector)

    def prefetch(selector: ReleaseSelector) -> None:
        lights.load(selector)
        scorers.prefetch(selector)

    def work(job: Job, held: HeldJob) -> None:
        held.check()
        release = service.release(job.tenant_id, job.release)
        with scorers.in_use(job.tenant_id, release.selector):
            selection = select(
                job,
                held,
                release,
                prefetch=prefetch,
                light=lights.score,
                llm=batcher.score,
                ledger=service.ledger,
                attempts=service.attempts,
                store_patience_seconds=settings.store_patience_seconds,
            )
        metrics.count(selection)

    watch = ReleaseWatch(
        service.registry, service.ledger.redis, DEFAULT_TENANT, warm, poll_seconds=settings.pointer_poll_seconds
    )
    watch.start()
    service.on(TaskName.SELECT, work)
    service.run()


def _base_folder(settings: Settings) -> Path:
    """The base model, once a selector needs it; called by the thread that scores."""
    limit_threads(settings)
    return resolve_base_model(settings)
