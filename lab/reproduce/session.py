"""The session in which conditions run: the running system, the base model, the rows, the folder of outcomes."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from signalbox import Signalbox

from lab.reproduce.results_store import Outcome, Outcomes
from lab.reproduce.task_data import TaskRows
from services.cli.local.run_state import current_client, current_registry, current_settings
from shared.errors import Conflict, NotFound
from shared.names import DEFAULT_TENANT
from shared.registry import Registry
from shared.settings import Settings

if TYPE_CHECKING:
    from services.trainer.evaluation.selector import SelectorScorer


@dataclass(frozen=True, slots=True)
class Session:
    """The parts of one run; none of them changes between conditions."""

    client: Signalbox
    registry: Registry
    settings: Settings
    base: str
    """The base model's name in reports; for a folder only its last part, so that reports reveal no paths."""
    base_folder: Path
    base_id: str
    rows: TaskRows
    outcomes: Outcomes

    def has(self, outcome: Outcome) -> bool:
        """Whether this system has the outcome's release or adapter; another system may have produced the outcome."""
        try:
            if outcome.adapter:
                self.registry.adapters.get(DEFAULT_TENANT, outcome.adapter)
            else:
                self.registry.releases.get(DEFAULT_TENANT, outcome.release)
        except NotFound:
            return False
        return True

    def scorer(self, max_tokens: int) -> "SelectorScorer":
        """A scorer that runs stored selectors in this process, as the service does."""
        from services.trainer.evaluation.selector import SelectorScorer
        from shared.model.base import load_tokenizer
        from shared.model.hardware import limit_threads

        limit_threads(self.settings)
        tokenizer = load_tokenizer(self.base_folder)
        return SelectorScorer(self.registry, self.base_folder, tokenizer, max_tokens, self.settings.dtype)


def open_session(base: str, rows: TaskRows, folder: Path) -> Session:
    """Connect to the system; raises `Conflict` if it has another base model.

    Raises `Unavailable` if no system runs or its ledger does not answer, and `Invalid` or `Unavailable` if the base
    model is not found.
    """
    from shared.model.base import base_model_id, resolve_base_model

    client, settings = current_client(), current_settings()
    registry = current_registry(settings)
    base_folder = resolve_base_model(settings.model_copy(update={"base_model": base}))
    base_id = base_model_id(base_folder)
    _check_base(client, base, base_id)
    named = base_folder.name if Path(base).expanduser().is_dir() else base
    return Session(client, registry, settings, named, base_folder, base_id, rows, Outcomes(folder))


def _check_base(client: Signalbox, base: str, base_id: str) -> None:
    models = client.get("/v1/models")["data"]
    served = models[0]["id"] if models else "none yet"
    if served != base_id:
        raise Conflict(
            "base_model_differs",
            f"{base!r} is base model {base_id}, the running system has {served}: "
            f"start it with SIGNALBOX_BASE_MODEL={base} and a SIGNALBOX_DATA_DIR of its own",
        )
