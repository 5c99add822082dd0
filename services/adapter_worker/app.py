"""The adapter worker, wired by hand: settings, clients, engine, handlers, task, worker."""

from pathlib import Path

import structlog

from services.adapter_worker import metrics
from services.adapter_worker.adapters.disk_cache import DiskCache
from services.adapter_worker.adapters.prefetch import Prefetcher
from services.adapter_worker.adapters.residency import changes, wanted
from services.adapter_worker.engine import Engine, make_engine
from services.adapter_worker.handlers import Fetch, generate, runners_up
from shared.adapter_files import BaseShapes
from shared.contracts.labels import check_name
from shared.contracts.manifests import Release
from shared.errors import SignalboxError
from shared.names import DEFAULT_TENANT, TaskName, generate_queue
from shared.observability.logging import configure_logging
from shared.observability.tracing import configure_tracing
from shared.registry import ReleaseWatch
from shared.settings import Settings
from shared.worker.attempt import Attempt
from shared.worker.service import Service, end_on_sigterm, publish_base_model

log = structlog.get_logger()


def main() -> None:
    """Run until SIGTERM."""
    end_on_sigterm()
    configure_logging("adapter_worker")
    configure_tracing("adapter_worker")
    settings = Settings()
    groups = [check_name(group.strip(), "group") for group in settings.groups.split(",")]
    service = Service(
        settings,
        "adapter_worker",
        [generate_queue(group) for group in groups],
        concurrency=settings.worker_slots + settings.worker_ahead,
    )
    engine = build_engine(service, settings)
    measure(engine)
    cache = DiskCache(service.registry.fetch_weights, settings.cache_dir / "adapters", settings.adapter_cache_mib << 20)
    prefetcher = Prefetcher(cache.fetch, is_busy=lambda: engine.running_count > 0, is_full=lambda: cache.is_full)
    follow_releases(service, engine, groups, cache.fetch, prefetcher)

    def work(attempt: Attempt) -> None:
        job = attempt.job
        release = service.release(job.tenant_id, job.release)
        prefetcher.hasten(runners_up(job, release))
        generate(
            attempt,
            release,
            engine=engine,
            fetch=cache.fetch,
            store_patience_seconds=settings.store_patience_seconds,
        )

    service.on(TaskName.GENERATE, work)
    service.run()
    engine.close()


def build_engine(service: Service, settings: Settings) -> Engine:
    """The engine on the base model, which is announced so that uploads can be checked against it."""
    if settings.engine == "echo":
        return make_engine("echo", settings, Path())
    from shared.model.base import base_model_id, resolve_base_model
    from shared.model.hardware import limit_threads

    limit_threads(settings)
    folder = resolve_base_model(settings)
    publish_base_model(service, base_model_id(folder), BaseShapes.from_folder(folder).to_dict())
    return make_engine(settings.engine, settings, folder)


def measure(engine: Engine) -> None:
    """Show the engine in the metrics as it is whenever they are read."""
    metrics.REQUESTS_RUNNING.set_function(lambda: max(0, engine.running_count - engine.waiting_count))
    metrics.REQUESTS_WAITING.set_function(lambda: engine.waiting_count)
    metrics.ADAPTERS_RESIDENT.set_function(lambda: len(engine.resident))


def follow_releases(service: Service, engine: Engine, groups: list[str], fetch: Fetch, prefetcher: Prefetcher) -> None:
    """Keep the current release's adapters resident, and its parent's for jobs in flight, as far as there is room.

    Those of the current release that have none wait on the disk.
    """

    def adopt(release: Release) -> None:
        kept = [release]
        if release.parent:
            kept.append(service.release(release.tenant_id, release.parent))
        todo = changes(kept, groups, engine.resident, room=service.settings.adapter_slots)
        for digest in todo.load:
            try:
                engine.load_adapter(digest, fetch(digest))
                metrics.ADAPTER_LOADS.inc()
            except SignalboxError as error:  # a request for it tries again, and fails with this error if it must
                log.error("adapter_not_loaded", digest=digest, code=error.code, error=error.detail)
        for digest in todo.unload:
            engine.unload_adapter(digest)
            metrics.EVICTED_WITH_RELEASE.inc()
        prefetcher.want(sorted(wanted(release, groups) - engine.resident))
        service.info.update(release=release.id, resident=sorted(engine.resident), groups=groups)
        log.info("release_loaded", release=release.id, resident=len(engine.resident))

    ReleaseWatch(
        service.registry,
        service.ledger.redis,
        DEFAULT_TENANT,
        adopt,
        poll_seconds=service.settings.pointer_poll_seconds,
    ).start()
