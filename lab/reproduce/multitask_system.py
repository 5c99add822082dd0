"""What the multi-task tables need of the running system: uploads, jobs that are awaited, the base model's answers."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.reproduce.multitask_run import Samples
from lab.reproduce.provenance import provenance
from lab.reproduce.results_store import Outcomes
from lab.reproduce.session import open_session
from lab.reproduce.task_data import TaskRows
from services.cli.bars import progress_bars, shown
from services.cli.progress import follow_into
from services.trainer.data.examples import InstructionRow
from shared.contracts.rows import dump_rows
from shared.errors import Conflict

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FEW_SHOT_TOKENS = 2048


class System:
    """The running system, and its base model in this process."""

    def __init__(self, base: str, samples: Samples, folder: Path) -> None:
        self._session = open_session(base, TaskRows(folder), folder)
        self._samples = samples
        self._outcomes: Outcomes = self._session.outcomes
        self.base = f"{self._session.base} ({self._session.base_id})"

    @property
    def notes(self) -> list[str]:
        """What was measured with."""
        found = provenance()
        return [f"{found.machine}; commit {found.commit}"]

    def upload(self, labels: Iterable[str]) -> None:
        """Upload the tasks' rows, unless the system has them already."""
        client = self._session.client
        known = {manifest["id"] for manifest in client.get("/v1/datasets")["items"]}
        for label in labels:
            for part in ("train", "test"):
                if self._samples.dataset(label, part) not in known:
                    client.post(
                        "/v1/datasets",
                        content=dump_rows(self._samples.rows(label, part)),
                        headers={"Content-Type": "application/x-ndjson"},
                        params={"name": f"{label}-{part}"},
                        timeout=300,
                    )

    def run(self, body: dict[str, Any]) -> Mapping[str, Any]:
        """Queue a training, or find the one that an earlier run queued, and wait; raises `Conflict` where it fails."""
        key = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:24]
        headers = {"Idempotency-Key": self._outcomes.job_key(key)}
        client = self._session.client
        job_id = str(client.post("/v1/training/jobs", {**body, "confirm_cost": True}, headers=headers)["id"])
        bars = progress_bars()
        with shown(bars):
            job = follow_into(client, bars, job_id, str(body["kind"]))
        if job["state"] != "succeeded":
            self._outcomes.note_failed(key, job_id)
            error = job["error"] or {}
            raise Conflict("training_failed", f"{job_id} is {job['state']}: {error.get('detail')}; run it again")
        result: Mapping[str, Any] = job["result"]
        return result

    def answer(self, rows: Sequence[InstructionRow]) -> Sequence[str]:
        """The base model's greedy answers under its usual template."""
        from services.trainer.evaluation.generate import answer_rows
        from shared.contracts.built_in_templates import BUILT_IN
        from shared.model.base import load_tokenizer
        from shared.prompts.bound import BasePrompts

        folder = self._session.base_folder
        tokenizer = load_tokenizer(folder)
        prompts = BasePrompts(tokenizer, folder)
        template = prompts.bind(BUILT_IN[prompts.usual])
        return answer_rows(self._model, tokenizer, rows, template=template, max_tokens=FEW_SHOT_TOKENS)

    @cached_property
    def _model(self) -> "PreTrainedModel":
        from shared.model.base import load_model
        from shared.model.hardware import limit_threads

        limit_threads(self._session.settings)
        return load_model(self._session.base_folder, self._session.settings.dtype)
