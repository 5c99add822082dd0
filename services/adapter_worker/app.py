"""The adapter worker, wired by hand: settings, clients, engine, handlers, task, worker."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import structlog

from services.adapter_worker import metrics
from services.adapter_worker.adapters.disk_cache import DiskCache
from services.adapter_worker.adapters.prefetch import Prefetcher
from services.adapter_worker.adapters.residency import changes, wanted
from services.adapter_worker.engine import ECHO_BASE, Engine, make_engine
from services.adapter_worker.engine.base import EngineAway
from services.adapter_worker.engine_watch import EngineWatch
from services.adapter_worker.groups import named_groups, open_groups, take_up
from services.adapter_worker.handlers import Fetch, generate, runners_up
from services.adapter_worker.prompts import worker_prompts
from shared.contracts.manifests import BaseModelManifest, Release
from shared.errors import NotFound, SignalboxError
from shared.names import BASE_GROUP, DEFAULT_TENANT, TaskName, generate_queue
from shared.observability.logging import configure_logging
from shared.observability.tracing import configure_tracing
from shared.registry import ReleaseWatch
from shared.registry.base_models import warn_of_other_base
from shared.registry.watch import note_release
from shared.settings import Settings
from shared.worker.attempt import Attempt
from shared.worker.base_model import note_releases, publish_base_model
from shared.worker.service import Service, end_on_sigterm

log = structlog.get_logger()


def main() -> None:
    """Run until SIGTERM."""
    end_on_sigterm()
    configure_logging("adapter_worker")
    configure_tracing("adapter_worker")
    settings = Settings()
    groups = named_groups(settings.groups)
    service = Service(
        settings,
        "adapter_worker",
        [generate_queue(group) for group in groups],
        concurrency=settings.worker_slots + settings.worker_ahead,
    )
    engine, base, base_folder = build_engine(service, settings)
    prompts = worker_prompts(service.registry, base_folder, renders_jinja=settings.chat_templates)
    base_template = settings.base_template or base.usual_template
    if base_folder:  # a template that does not fit ends the start, instead of each request
        prompts(DEFAULT_TENANT, base_template)
    measure(engine)
    cache = DiskCache(service.registry.weights.fetch, settings.cache_dir / "adapters", settings.adapter_cache_mib << 20)
    prefetcher = Prefetcher(cache.fetch, is_busy=lambda: engine.running_count > 0, is_full=lambda: cache.is_full)
    watch = EngineWatch(engine, service)
    watch.start()
    follow_releases(service, engine, groups, cache.fetch, prefetcher, base)

    def work(attempt: Attempt) -> None:
        job = attempt.job
        release = service.release(job.tenant_id, job.release)
        prefetcher.hasten(runners_up(job, release))
        try:
            generate(
                attempt,
                release,
                engine=engine,
                base_model=base.id,
                fetch=cache.fetch,
                prompts=prompts,
                base_template=base_template,
                store_patience_seconds=settings.store_patience_seconds,
            )
        except EngineAway as error:
            watch.note(error)
            raise

    service.on(TaskName.GENERATE, work)
    service.run()
    engine.close()


def build_engine(service: Service, settings: Settings) -> tuple[Engine, BaseModelManifest, Path | None]:
    """The engine, its base model, whose manifest is published to check uploads against, and the model's folder."""
    if settings.engine == "echo":
        service.serve_base(ECHO_BASE.id)
        return make_engine("echo", settings, Path()), ECHO_BASE, None
    from shared.model.base import resolve_base_model
    from shared.model.hardware import limit_threads

    limit_threads(settings)
    folder = resolve_base_model(settings)
    base = publish_base_model(service, folder)
    service.serve_base(base.id)
    if settings.engine == "vllm":  # it refuses other adapters, so promotions are checked by this
        service.info["lora"] = {"max_rank": settings.vllm_max_lora_rank, "dora": False}
    return make_engine(settings.engine, settings, folder), base, folder


def measure(engine: Engine) -> None:
    """Let the metrics read the engine's state at every scrape."""
    metrics.REQUESTS_RUNNING.set_function(lambda: max(0, engine.running_count - engine.waiting_count))
    metrics.REQUESTS_WAITING.set_function(lambda: engine.waiting_count)
    metrics.CACHE_USED.set_function(lambda: engine.cache.used_ratio)
    metrics.ADAPTERS_RESIDENT.set_function(lambda: len(engine.resident))


def follow_releases(
    service: Service,
    engine: Engine,
    groups: list[str],
    fetch: Fetch,
    prefetcher: Prefetcher,
    base: BaseModelManifest,
) -> ReleaseWatch:
    """Keep resident the adapters of all tenants' current releases, of candidates that are rolled out, and of parents.

    Adapters of current releases that exceed the slots are prefetched to the disk. Releases made for another base model
    are none of this worker's. With the group `*`, groups that nobody serves are taken up, also those
    whose last worker goes. Jobs in flight may still be pinned to a parent.
    """
    on_trial: dict[str, str] = {}

    def adopt(release: Release) -> None:
        warn_of_other_base(release, base)
        known = [release, *(other for other in watch.releases if other.tenant_id != release.tenant_id)]
        note_releases(service, base, [one for one in known if _is_for(one, groups)])
        current, candidates, parents = (
            [one for one in found if base.id in one.bases]
            for found in (known, _candidates(service, on_trial), _parents(service, known))
        )
        held = [*current, *candidates, *parents]
        take_up(service, groups, held)
        todo = changes(held, base.id, groups, engine.resident, room=service.settings.adapter_slots)
        _load(engine, todo.load, fetch)
        for digest in todo.unload:
            engine.unload_adapter(digest)
            metrics.EVICTED_WITH_RELEASE.inc()
        prefetcher.want(sorted(set().union(*(wanted(one, base.id, groups) for one in current)) - engine.resident))
        note_release(service.info, release)
        service.info.update(resident=sorted(engine.resident), groups=groups)
        log.info("release_loaded", tenant_id=release.tenant_id, release=release.id, resident=len(engine.resident))

    def look_again(_tenant_id: str = "") -> None:
        nonlocal on_trial
        before, on_trial = on_trial, service.registry.releases.on_trial([one.tenant_id for one in watch.releases])
        releases = [*watch.releases, *_candidates(service, on_trial)]
        if on_trial != before or open_groups(service, groups, releases):
            for release in watch.releases:
                adopt(release)

    watch = ReleaseWatch(
        service.registry.releases,
        service.ledger.redis,
        adopt,
        poll_seconds=service.settings.pointer_poll_seconds,
        on_poll=look_again,
        on_hint=look_again,
    )
    watch.start()
    return watch


def _is_for(release: Release, groups: Sequence[str]) -> bool:
    return BASE_GROUP in groups or any(entry.group in groups for entry in release.labels.values())


def _candidates(service: Service, on_trial: Mapping[str, str]) -> Iterator[Release]:
    """The candidates that get a share of the requests, or are about to."""
    for tenant_id, release_id in on_trial.items():
        with contextlib.suppress(NotFound):  # its rollout says so
            yield service.release(tenant_id, release_id)


def _parents(service: Service, current: list[Release]) -> Iterator[Release]:
    """The parent releases, to which jobs in flight may still be pinned."""
    for release in current:
        with contextlib.suppress(NotFound):  # then a job loads its adapters
            if release.parent:
                yield service.release(release.tenant_id, release.parent)


def _load(engine: Engine, digests: list[str], fetch: Fetch) -> None:
    for digest in digests:
        try:
            engine.load_adapter(digest, fetch(digest))
            metrics.ADAPTER_LOADS.inc()
        except SignalboxError as error:  # a request for it loads it again, and fails if that fails
            log.error("adapter_not_loaded", digest=digest, code=error.code, error=error.detail)
