"""Builds the selector service: settings, clients, models, handlers, task, worker."""

import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from services.selector import metrics
from services.selector.handlers import Reader, read_along, select
from services.selector.scoring.batcher import Batcher, ScoreMany
from services.selector.scoring.card_memory import within_memory
from services.selector.scoring.light import LightSelectors
from services.selector.scoring.llm import LlmScorers
from services.selector.scoring.neighbours import Neighbours
from services.selector.scoring.prototypes import PrototypeScorers
from shared.contracts.manifests import BaseModelManifest, Release, ReleaseSelector
from shared.contracts.selection import Selection
from shared.errors import SignalboxError
from shared.model.base import resolve_base_model
from shared.model.hardware import limit_card, limit_threads
from shared.model.memory import trim_heaps
from shared.model.prototypes import Reading
from shared.names import SELECT_QUEUE, TaskName
from shared.observability.logging import configure_logging
from shared.observability.tracing import configure_tracing
from shared.registry import ReleaseWatch
from shared.registry.base_models import warn_of_other_base
from shared.registry.watch import note_release
from shared.registry.weights import Weights
from shared.settings import Settings
from shared.worker.attempt import Attempt
from shared.worker.base_model import note_base_model, note_releases
from shared.worker.service import Service, end_on_sigterm

log = structlog.get_logger()
WARM_TENANTS = 2
"""Number of tenants whose selectors are loaded before a request needs them: memory holds two, more would evict them.

The default tenant is the first of them; the selectors of the other tenants are fetched to the disk.
"""

KEPT_BY_LIBRARIES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "MKL_DISABLE_FAST_MM": "1"}
"""Compiled products, of which each length of text needs its own, and buffers of products: 85 MiB after 160 batches of
mixed lengths, without which no batch was slower."""


def main() -> None:
    """Run until SIGTERM."""
    _save_memory()
    end_on_sigterm()
    configure_logging("selector")
    configure_tracing("selector")
    settings = Settings()
    if settings.selector_device == "cpu":  # torch looks for cards when it is imported
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    # Twice the batch size: one batch is scored while the next one is gathered.
    service = Service(settings, "selector", [SELECT_QUEUE], concurrency=2 * settings.selector_batch)
    lights = LightSelectors(service.registry.weights.fetch_light)
    base = ServedBase(service)
    scorers = LlmScorers(
        base.folder,
        service.registry.weights.fetch,
        dtype=settings.dtype,
        max_tokens=settings.max_prompt_tokens,
        on_load=metrics.LOADS.inc,
    )
    neighbours = Neighbours(service.registry.datasets.get_rows, lights.idf)
    reading = Reading(base.folder, settings.encoder, settings.dtype)
    fetch_prototypes = service.registry.weights.fetch_prototypes
    prototypes = PrototypeScorers(fetch_prototypes, reading, on_load=lambda: limit_threads(settings))

    batcher, prototype_batcher = (_batcher(settings, many) for many in (scorers.score_many, prototypes.score_many))

    def prefetch(selector: ReleaseSelector) -> None:
        lights.load(selector)
        scorers.prefetch(selector)
        prototypes.prefetch(selector)

    def light(selector: ReleaseSelector, text: str) -> list[float]:
        return (prototype_batcher if selector.prototypes else lights).score(selector, text)

    def warm_up(selector: ReleaseSelector) -> None:
        (prototype_batcher if selector.prototypes else batcher).score(selector, "warm-up")

    reader = Reader(
        prefetch=prefetch,
        light=light,
        llm=batcher.score,
        near=neighbours.near,
        base_model=lambda: base.manifest.id,
        store_patience_seconds=settings.store_patience_seconds,
    )

    follow_releases(service, prefetch, warm_up, scorers, base)
    service.on(TaskName.SELECT, working(service, scorers, reader))
    service.run()


def working(service: Service, scorers: LlmScorers, reader: Reader) -> Callable[[Attempt], None]:
    """Return what the service does with a job."""

    def work(attempt: Attempt) -> None:
        attempt.check()
        job = attempt.job
        release = service.release(job.tenant_id, job.release)
        with scorers.in_use(job.tenant_id, release.selector):
            selection = select(attempt, release, reader)
        metrics.count(selection)
        if job.shadow:
            shadow(attempt, release, selection)

    def shadow(attempt: Attempt, release: Release, selection: Selection) -> None:
        candidate = service.release(attempt.job.tenant_id, attempt.job.shadow)
        if candidate.base_model == release.base_model:
            with scorers.in_use(candidate.tenant_id, candidate.selector):
                read_along(attempt, candidate, selection, reader)

    return work


def _batcher(settings: Settings, score_many: ScoreMany) -> Batcher:
    return Batcher(
        within_memory(score_many),
        max_batch=settings.selector_batch,
        max_wait_ms=settings.selector_wait_ms,
        on_idle=trim_heaps,  # what the batches needed beside the weights
    )


def _save_memory() -> None:
    """Limit what the libraries of the language model keep; call it before they are imported."""
    for name, value in KEPT_BY_LIBRARIES.items():
        os.environ.setdefault(name, value)
    # transformers imports scipy where it is installed, for a loss of object detection: 21 MiB that no selector needs.
    sys.modules["scipy"] = None  # type: ignore[assignment]


class ServedBase:
    """The base model; it is resolved only when a selector first needs its language model."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._manifest: BaseModelManifest | None = None
        self._lock = threading.Lock()  # guards the manifest

    @property
    def manifest(self) -> BaseModelManifest:
        """The base model's manifest; the process serves the model from the first call on.

        Raises `Invalid`, `Unavailable`.
        """
        with self._lock:
            if self._manifest is None:
                self._manifest = note_base_model(self._service, resolve_base_model(self._service.settings))
                self._service.serve_base(self._manifest.id)
            return self._manifest

    def folder(self) -> Path:
        """Return the base model's folder; the scoring thread calls this. Raises `Invalid`, `Unavailable`."""
        settings = self._service.settings
        limit_threads(settings)
        limit_card(settings.selector_card_share)
        return resolve_base_model(settings)

    def compare(self, release: Release, current: Sequence[Release]) -> None:
        """Note which base models the current releases' selectors need; some need none."""
        needing = [one for one in current if one.selector and one.selector.needs_base]
        self._service.misfit = ""
        if needing:
            note_releases(self._service, self.manifest, needing)
        if release in needing:
            warn_of_other_base(release, self.manifest)


def follow_releases(
    service: Service,
    prefetch: Callable[[ReleaseSelector], None],
    warm_up: Callable[[ReleaseSelector], None],
    scorers: LlmScorers,
    base: ServedBase,
) -> ReleaseWatch:
    """Watch the releases of every tenant, and load or fetch each new selector before the first request needs it."""
    warm_tenants: set[str] = set()

    def load(release: Release, selector: ReleaseSelector) -> None:
        if release.tenant_id not in warm_tenants and len(warm_tenants) >= WARM_TENANTS:
            _fetch(service.registry.weights, selector)
            return
        warm_tenants.add(release.tenant_id)
        prefetch(selector)
        is_slow_at_first = selector.llm or selector.prototypes
        if is_slow_at_first and not (selector.needs_base and release.base_model != base.manifest.id):
            warm_up(selector)

    def adopt(release: Release) -> None:
        note_release(service.info, release)
        with scorers.in_use(release.tenant_id, release.selector):
            try:
                base.compare(release, watch.releases)
                if release.selector:
                    load(release, release.selector)
            except SignalboxError as error:  # a request that needs this selector tries again
                log.error("selector_not_loaded", release=release.id, code=error.code, error=error.detail)
            else:
                log.info("release_loaded", tenant_id=release.tenant_id, release=release.id)
            scorers.make_current(release.tenant_id, release.selector)

    watch = ReleaseWatch(
        service.registry.releases, service.ledger.redis, adopt, poll_seconds=service.settings.pointer_poll_seconds
    )
    watch.start()
    return watch


def _fetch(weights: Weights, selector: ReleaseSelector) -> None:
    """Fetch the files of a selector to the local disk."""
    if selector.light:
        weights.fetch_light(selector.light)
    if selector.llm:
        weights.fetch(selector.llm)
    if selector.prototypes:
        weights.fetch_prototypes(selector.prototypes)
