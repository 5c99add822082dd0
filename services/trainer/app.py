"""The trainer, wired by hand: settings, clients, base model, handlers, task, worker."""

import shlex
import shutil
import sys

from services.trainer import metrics
from services.trainer.context import TrainingContext
from services.trainer.handlers import train
from shared.adapter_files import BaseShapes
from shared.contracts.jobs import Job
from shared.model import memory
from shared.model.base import base_model_id, load_tokenizer, resolve_base_model
from shared.model.hardware import limit_threads
from shared.names import TRAIN_QUEUE, TaskName
from shared.observability.logging import configure_logging
from shared.observability.tracing import configure_tracing
from shared.settings import Settings
from shared.worker.leases import HeldJob
from shared.worker.service import Service, end_on_sigterm, publish_base_model

IDLE_SECONDS = 120.0
"""How long a trainer that is to do one job waits for it: its message may be lost, and comes again."""


def main(*, once: bool = False) -> None:
    """Run until SIGTERM, or for one job; one training job at a time."""
    end_on_sigterm()
    configure_logging("trainer")
    configure_tracing("trainer")
    settings = Settings()
    limit_threads(settings)
    service = Service(settings, "trainer", [TRAIN_QUEUE], concurrency=1)
    base_folder = resolve_base_model(settings)
    publish_base_model(service, base_model_id(base_folder), BaseShapes.from_folder(base_folder).to_dict())
    context = TrainingContext(
        base_folder=base_folder,
        base_model=base_model_id(base_folder),
        tokenizer=load_tokenizer(base_folder),
        registry=service.registry,
        store=service.store,
        ledger=service.ledger,
        events=service.events,
        attempts=service.attempts,
        work_dir=settings.data_dir / "trainer",
        store_patience_seconds=settings.store_patience_seconds,
        encoder_folder=settings.encoder,
        # A process of its own at least: what a training takes goes with it, and its crash leaves this one its lease.
        training_launcher=settings.training_launcher or shlex.quote(sys.executable),
    )

    def work(job: Job, held: HeldJob) -> None:
        try:
            train(job, held, context)
        finally:
            metrics.clear()
            shutil.rmtree(context.work_dir / f"{job.id}-{job.attempt}", ignore_errors=True)
            memory.return_free_memory()

    service.on(TaskName.TRAIN, work)
    if once:
        service.run_once(IDLE_SECONDS)
    else:
        service.run()
