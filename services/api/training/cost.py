"""What a training job will take, from the sizes of its data sets and the speed of former trainings; blocking."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from services.api.infra.clients import Clients
from shared.contracts.compose import AdapterCompose
from shared.contracts.corpus_clean import CorpusClean
from shared.contracts.labels import parse_label
from shared.contracts.manifests import BaseModelManifest, Release
from shared.contracts.multitask import LOW_BELOW, MultitaskPlan, MultitaskPropose, MultitaskTrain
from shared.contracts.prompts import render, selector_prompt
from shared.contracts.reviews import TrafficReview
from shared.contracts.training import RATIOS, SelectorAdd, SelectorDelete, SelectorTrain, SelectorUpdate, TrainingBody
from shared.contracts.training_cost import Estimate, Rows, Work, check_cost, estimate, settled, together, work_of
from shared.contracts.training_memory import Batch, Memory, training_memory
from shared.contracts.training_settings import LoraSettings
from shared.contracts.training_tasks import (
    VALIDATION_SHARE,
    AdapterCheck,
    AdapterTrain,
    ComparisonTrain,
    TaskTraining,
)
from shared.registry import Registry

_SAMPLE = 8
"""Labels of a release whose rows are counted; the others are taken to have as many."""
_LABEL_TOKENS = 32
"""More than the answers of a selector have."""


class Quote(BaseModel):
    """What a training job will take, besides the seconds that words alone take."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    language_model: Literal["none", "trained", "if_needed", "asked"]
    """`if_needed`: it is trained where words are not enough, and its cost is within the limit or confirmed. `asked`: it
    answers rows, and is not trained."""
    estimate: Estimate | None
    """Of the language model's part; null where none is trained, or nothing is known to estimate by."""
    rows: int
    """That the language model is trained on in an epoch; 0 where none is trained, or its rows are not known yet."""
    tokens: int
    """About how many it is trained on, over all epochs."""
    steps: int
    memory: Memory | None
    """What its training takes of a card at most: as if every row of a batch had `max_length` tokens, and those of an
    adapter were answers from end to end. Null where it is not known."""
    limit_seconds: float
    needs_confirmation: bool
    """Whether the language model is trained only with `confirm_cost`."""

    def check(self, job: TrainingBody) -> None:
        """Raise `Invalid` `training_costly` where the job has to be confirmed and is not."""
        if self.language_model in ("trained", "asked"):
            check_cost(self.estimate, self.limit_seconds, job.kind, confirmed=job.confirm_cost)


class _Parts(NamedTuple):
    trained: Rows
    read: Rows


def quote(clients: Clients, tenant_id: str, job: TrainingBody, base: BaseModelManifest | None) -> Quote:
    """Estimate a job whose names are pinned, on a base model; raises `NotFound`, `Unavailable`."""
    sizes = _Sizes(clients.registry, tenant_id)
    release = sizes.parent(job)
    use, found, memory = _use_of_model(job, release), None, None
    work = sizes.work(job, release) if use != "none" else None
    if base and work:
        speeds = clients.registry.speeds.of(base.id)
        found = estimate(base.shapes, job.settings, work, speeds)
        memory = _memory(job, base, settled(job.settings, speeds), work)
    work = work or Work()
    limit = clients.settings.confirm_training_seconds
    return Quote(
        language_model=use,
        estimate=found,
        rows=work.rows,
        tokens=round(work.tokens),
        steps=work.steps,
        memory=memory,
        limit_seconds=limit,
        needs_confirmation=bool(found and limit and found.seconds > limit),
    )


def _memory(job: TrainingBody, base: BaseModelManifest, settings: LoraSettings, work: Work) -> Memory | None:
    rows, longest = min(settings.batch_size, work.rows), settings.max_length
    if not base.vocabulary_size or not rows:
        return None
    answer = longest if isinstance(job, TaskTraining) else min(_LABEL_TOKENS, longest)
    return training_memory(
        base.shapes,
        base.vocabulary_size,
        settings,
        Batch(rows * longest, rows * answer),
        experts=sum(job.experts) / len(job.experts) if isinstance(job, ComparisonTrain) and job.has_experts else 1.0,
    )


def _use_of_model(job: TrainingBody, release: Release | None) -> Literal["none", "trained", "if_needed", "asked"]:
    if isinstance(job, AdapterCheck | TrafficReview | MultitaskPropose | CorpusClean):
        return "none"
    if isinstance(job, AdapterCompose):
        return "asked" if job.dataset else "none"
    if isinstance(job, SelectorTrain):
        return {"light": "none", "prototypes": "none", "auto": "if_needed"}.get(job.selector, "trained")  # type: ignore[return-value]
    if isinstance(job, SelectorUpdate):
        before = release.selector if release else None
        if job.selector == "auto" or (job.selector == "keep" and before and before.prototypes):
            return "if_needed"
        return "none" if job.selector != "keep" or (before and not before.llm) else "trained"
    return "trained"


class _Sizes(NamedTuple):
    """The sizes of a tenant's data."""

    registry: Registry
    tenant_id: str

    def parent(self, job: TrainingBody) -> Release | None:
        """Return the release that an update starts from; None where it is known only when other jobs have ended."""
        if not isinstance(job, SelectorUpdate) or not job.parent:
            return None
        return self.registry.releases.get(self.tenant_id, job.parent)

    def work(self, job: TrainingBody, release: Release | None) -> Work | None:
        """Return what the language model has to do; None where the job's rows are not known yet, or it does nothing."""
        of_kind: dict[str, Callable[[Any], Work | None]] = {
            "adapter.train": self._adapter,
            "adapter.compose": self._composition,
            "comparison.train": self._comparison,
            "multitask.plan": self._plan,
            "multitask.train": self._multitask,
            "selector.train": self._new_selector,
        }
        if job.kind in of_kind:
            return of_kind[job.kind](job)
        return self._update(job, release) if isinstance(job, SelectorUpdate) and release else None

    def _adapter(self, job: AdapterTrain) -> Work:
        parts = self._task(job.label, job.dataset, job.validation, job.evaluate_rows)
        answers = 4 if job.on else 2
        return work_of(job.settings, parts.trained, parts.read._replace(number=answers * parts.read.number))

    def _comparison(self, job: ComparisonTrain) -> Work:
        other, most = job.evaluation, job.evaluate_rows
        tasks = [self._task(label, ref, other.get(label), most) for label, ref in job.labels.items()]
        return work_of(job.settings, *_joined(tasks))

    def _composition(self, job: AdapterCompose) -> Work | None:
        if not job.dataset:
            return None
        rows = self._rows(job.dataset, job.label).part(job.evaluate_rows)
        read = rows._replace(number=job.arms * rows.number)
        return Work(read_tokens=read.tokens(job.settings.max_length), only_reads=True)

    def _task(self, label: str, dataset: str, validation: str | None, evaluate_rows: int) -> _Parts:
        rows = self._rows(dataset, label)
        held_out = self._rows(validation, label) if validation else rows.part(VALIDATION_SHARE * rows.number)
        trained = rows if validation else rows.part((1 - VALIDATION_SHARE) * rows.number)
        return _Parts(trained, held_out.part(evaluate_rows))

    def _plan(self, job: MultitaskPlan) -> Work:
        """Runs of every task whose resource is not said, to the last epoch that may decide it."""
        open_tasks = {label: ref for label, ref in job.labels.items() if not job.says_resource(label)}
        parts = _joined([self._task(label, ref, None, job.evaluate_rows) for label, ref in open_tasks.items()])
        epochs = LOW_BELOW - 1
        settings = job.settings.model_copy(update={"epochs": epochs})
        return work_of(settings, parts.trained, parts.read._replace(number=epochs * parts.read.number))

    def _multitask(self, job: MultitaskTrain) -> Work:
        """Both stages, the first as if every task were high-resource; the steps are those of the budget at most."""
        other, most = job.validation, job.evaluate_rows
        parts = _joined([self._task(label, ref, other.get(label), most) for label, ref in job.labels.items()])
        epochs = job.settings.epochs + job.two_stages
        found = work_of(job.settings.model_copy(update={"epochs": epochs}), parts.trained, parts.read)
        steps = min(found.steps, job.max_steps)
        return found._replace(steps=steps, tokens=found.tokens * steps / max(found.steps, 1))

    def _new_selector(self, job: SelectorTrain) -> Work | None:
        if not job.datasets:
            return None
        labels = [self._new_label(job, label) for label in job.datasets]
        parts = _joined(labels)
        most = max(label.trained.number for label in labels)  # every label gets as many rows as the largest
        prompt = _prompt_bytes(job, job.datasets, has_head=None if job.readout == "auto" else job.readout == "head")
        return work_of(job.settings, parts.trained._replace(number=len(labels) * most), parts.read, prompt_bytes=prompt)

    def _update(self, job: SelectorUpdate, release: Release) -> Work:
        new = _joined([self._new_label(job, label) for label in job.datasets] if isinstance(job, SelectorAdd) else [])
        old = self._kept(release)
        shares: tuple[float, ...] = RATIOS if job.retention == "auto" else (job.retention,)
        if not isinstance(job, SelectorAdd | SelectorDelete):
            shares = tuple(1.0 for _ in shares)  # of how many labels all rows are kept is not known here
        trained = together([
            new.trained._replace(number=len(shares) * new.trained.number),
            old.trained._replace(number=math.ceil(sum(shares) * old.trained.number)),
        ])  # fmt: skip
        before = release.trained_as
        prompt = _prompt_bytes(job, {*release.labels, *job.labels}, has_head=before.has_head if before else None)
        return work_of(job.settings, trained, together([new.read, old.read]), prompt_bytes=prompt)

    def _new_label(self, job: SelectorTrain | SelectorAdd, label: str) -> _Parts:
        texts, held_out = self._texts(job.datasets[label], label), job.selection.validation_share
        trained = texts.part((1 - held_out) * texts.number).part(job.selection.rows_per_label)
        return _Parts(trained, texts.part(held_out * texts.number))

    def _kept(self, release: Release) -> _Parts:
        """Count the rows that the release keeps, of some of its labels where it has many."""
        labels = sorted(release.representation)
        sample = labels[:: math.ceil(len(labels) / _SAMPLE)] if labels else []
        return _Parts(*(self._stored(keys, sample) for keys in (release.representation, release.validation)))

    def _stored(self, keys: dict[str, str], sample: list[str]) -> Rows:
        read = self.registry.datasets.get_rows
        found = together(Rows.of([row.input for row in read(keys[label])]) for label in sample if label in keys)
        return found._replace(number=round(found.number * len(keys) / max(len(sample), 1)))

    def _rows(self, dataset: str, label: str) -> Rows:
        manifest = self.registry.datasets.get(self.tenant_id, dataset)
        return Rows(manifest.count_for(label), manifest.size_bytes / manifest.rows)

    def _texts(self, dataset: str, label: str) -> Rows:
        manifest = self.registry.datasets.get(self.tenant_id, dataset)
        return Rows(manifest.count_for(label), (manifest.input_bytes or manifest.size_bytes) / manifest.rows)


def _joined(parts: Iterable[_Parts]) -> _Parts:
    parts = list(parts)
    return _Parts(together(part.trained for part in parts), together(part.read for part in parts))


def _prompt_bytes(job: TrainingBody, labels: Iterable[str], *, has_head: bool | None) -> int:
    """Return the length of the prompt around a text; a head reads the text alone."""
    prompt = len(render(selector_prompt("", map(parse_label, labels))).encode())
    is_long = 2 * Rows(1, prompt).tokens(job.settings.max_length) > job.settings.max_length
    return 0 if (is_long if has_head is None else has_head) else prompt
