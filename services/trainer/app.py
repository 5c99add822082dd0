"""The trainer, wired by hand: settings, clients, base model, handlers, task, worker."""

import shlex
import shutil
import sys

from services.trainer import metrics
from services.trainer.context import TrainerClients, attempt_folder
from services.trainer.handlers import train
from services.trainer.speed import probe_speed
from shared.adapter_files import AdapterLimits
from shared.model import memory
from shared.model.base import load_tokenizer, resolve_base_model
from shared.model.hardware import limit_threads
from shared.names import TRAIN_QUEUE, TaskName
from shared.observability.logging import configure_logging
from shared.observability.tracing import configure_tracing
from shared.prompts.bound import BasePrompts
from shared.settings import Settings
from shared.worker.attempt import Attempt
from shared.worker.base_model import publish_base_model
from shared.worker.service import Service, end_on_sigterm

IDLE_SECONDS = 120.0
"""How long a trainer with `once` waits for its job: a lost message is sent again within this time."""


def main(*, once: bool = False) -> None:
    """Run until SIGTERM, or for one job; one training job at a time."""
    end_on_sigterm()
    configure_logging("trainer")
    configure_tracing("trainer")
    settings = Settings()
    limit_threads(settings)
    service = Service(settings, "trainer", [TRAIN_QUEUE], concurrency=1)
    base_folder = resolve_base_model(settings)
    base = publish_base_model(service, base_folder)
    service.serve_base(base.id)
    tokenizer = load_tokenizer(base_folder)
    clients = TrainerClients(
        base_folder=base_folder,
        base_model=base.id,
        base_manifest=base.digest,
        tokenizer=tokenizer,
        prompts=BasePrompts(tokenizer, base_folder, renders_jinja=settings.chat_templates),
        registry=service.registry,
        store=service.store,
        ledger=service.ledger,
        work_dir=settings.data_dir / "trainer",
        store_patience_seconds=settings.store_patience_seconds,
        adapter_limits=AdapterLimits.of(settings),
        encoder_folder=settings.encoder,
        confirm_training_seconds=settings.confirm_training_seconds,
        # A process of its own at least: what a training takes goes with it, and its crash leaves this one its lease.
        training_launcher=settings.training_launcher or shlex.quote(sys.executable),
    )

    probe_speed(service.registry, base_folder, base.id)

    def work(attempt: Attempt) -> None:
        try:
            train(attempt, clients)
        finally:
            metrics.clear()
            shutil.rmtree(attempt_folder(clients, attempt.job), ignore_errors=True)
            memory.return_free_memory()

    service.on(TaskName.TRAIN, work)
    if once:
        service.run_once(IDLE_SECONDS)
    else:
        service.run()
