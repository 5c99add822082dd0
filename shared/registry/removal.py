"""Deletes adapters, data sets, corpora, releases, templates that nothing uses; contents go when they are collected.

A job is accepted under the current release alone, so a release without jobs that is not current stays without. Whoever
makes a release of an adapter that is deleted meanwhile loses nothing: weights stay while a release names them.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from shared.contracts.built_in_templates import BUILT_IN
from shared.contracts.jobs import Job
from shared.errors import Conflict, Invalid
from shared.ledger import Ledger, calls
from shared.registry.adapters import Adapters
from shared.registry.corpora import Corpora
from shared.registry.datasets import FEEDBACK_DATASET, SAFE_DATASET, Datasets
from shared.registry.releases import Releases
from shared.registry.templates import Templates

_SHOWN = 5


class InUse(NamedTuple):
    """What the unfinished jobs of a tenant need."""

    releases: dict[str, str]
    """A job by the release that it runs under, or starts from."""
    trainings: list[Job]


class Removal:
    """Deletions; each raises `NotFound`, and `Conflict` that says what still uses the thing and what to do."""

    def __init__(
        self,
        ledger: Ledger,
        adapters: Adapters,
        datasets: Datasets,
        releases: Releases,
        templates: Templates,
        corpora: Corpora,
    ) -> None:
        self._ledger = ledger
        self._templates = templates
        self._adapters = adapters
        self._datasets = datasets
        self._corpora = corpora
        self._releases = releases

    def adapter(self, tenant_id: str, ref: str) -> None:
        """Delete one version of a label's adapter that no release and no unfinished training names."""
        if "@" not in ref:
            raise Invalid(
                "adapter_version_missing", f"name one version, such as {ref}@1: `signalbox adapters list` shows them"
            )
        manifest = self._adapters.get(tenant_id, ref)
        ref = manifest.ref
        naming = [r.id for r in self._releases.list_all(tenant_id) if ref in {entry.ref for entry in r.labels.values()}]
        if self._releases.current_id(tenant_id) in naming:
            raise Conflict("adapter_in_use", f"the live release answers with {ref}: promote one without it first")
        if naming:
            raise Conflict(
                "adapter_in_use", f"{ref} belongs to {_some(naming)}: delete that first (`signalbox releases rm`)"
            )
        for job in self.in_use(tenant_id).trainings:
            if {ref, manifest.label, manifest.digest} & {*_texts(_adapters_in(job.body))}:
                raise _needed_by(job, "adapter_in_use", ref)
        self._adapters.remove(manifest)

    def dataset(self, tenant_id: str, ref: str) -> None:
        """Delete a data set under all its names, unless a training or an update of the live release needs it."""
        manifest = self._datasets.stored(tenant_id, ref)
        trainings = self.in_use(tenant_id).trainings
        for job in trainings:
            if manifest.id in _texts(job.body):
                raise _needed_by(job, "dataset_in_use", f"data set {manifest.id}")
        for release_id in filter(None, {self._releases.current_id(tenant_id), *map(_parent, trainings)}):
            if manifest.id in self._releases.get(tenant_id, release_id).datasets.values():
                raise Conflict(
                    "dataset_in_use",
                    f"release {release_id} is updated from data set {manifest.id}: promote one without it first",
                )
        self._datasets.remove(tenant_id, manifest.id)

    def corpus(self, tenant_id: str, ref: str) -> None:
        """Delete a corpus that no unfinished training needs; what was made of it stays."""
        manifest = self._corpora.get(tenant_id, ref)
        if job := self.training_of(tenant_id, manifest.id):
            raise _needed_by(job, "corpus_in_use", f"corpus {manifest.id}")
        self._corpora.remove(manifest)

    def training_of(self, tenant_id: str, name: str) -> Job | None:
        """Return an unfinished training whose body has this id."""
        return next((job for job in self.in_use(tenant_id).trainings if name in _texts(job.body)), None)

    def feedback(self, tenant_id: str) -> None:
        """Delete the data set `feedback` and all rows that it is made of."""
        made = [m.id for m in self._datasets.list_all(tenant_id) if m.name in (FEEDBACK_DATASET, SAFE_DATASET)]
        for job in self.in_use(tenant_id).trainings:
            if any(one in _texts(job.body) for one in made):
                raise _needed_by(job, "dataset_in_use", "the data set feedback")
        self._datasets.forget_feedback(tenant_id)

    def release(self, tenant_id: str, release_id: str) -> None:
        """Delete a release that is not current, and that no unfinished job runs under or starts from."""
        release = self._releases.get(tenant_id, release_id)
        if job_id := self.in_use(tenant_id).releases.get(release_id):
            raise Conflict(
                "release_in_use", f"job {job_id} runs under release {release_id}: wait for its end, or cancel it"
            )
        self._releases.remove(release)

    def template(self, tenant_id: str, name: str) -> None:
        """Delete an added template that no adapter, release or unfinished training names."""
        if name in BUILT_IN:
            raise Conflict("template_built_in", f"{name!r} is built in: leave it, no release has to use it")
        template = self._templates.get(tenant_id, name)
        for adapter in self._adapters.list_all(tenant_id):
            if adapter.template == name:
                raise Conflict(
                    "template_in_use",
                    f"adapter {adapter.ref} is prompted by {name!r}: delete that first (`signalbox adapters rm`)",
                )
        naming = [r.id for r in self._releases.list_all(tenant_id) if name in {e.template for e in r.labels.values()}]
        if naming:
            raise Conflict(
                "template_in_use", f"{_some(naming)} names {name!r}: delete that first (`signalbox releases rm`)"
            )
        for job in self.in_use(tenant_id).trainings:
            if name in _texts(job.body):
                raise _needed_by(job, "template_in_use", f"template {name}")
        self._templates.remove(tenant_id, template)

    def in_use(self, tenant_id: str) -> InUse:
        """Return what the tenant's unfinished jobs, and its dead letters, need."""
        found, before = InUse({}, []), "+inf"
        while before:
            part = self._ledger.do(calls.unfinished(tenant_id, before))
            found.trainings.extend(part.trainings)
            found.releases.update(part.releases)
            found.releases.update({_parent(job): job.id for job in part.trainings})
            before = part.next
        return found


def _parent(job: Job) -> str:
    """Return the release that a training starts from; empty for one that starts from none, or chooses it later."""
    return str(job.body.get("parent", ""))


def _adapters_in(body: Mapping[str, Any]) -> Any:
    """Return the part of a training's body that may name adapters: of a selector's all, with its labels."""
    return body if str(body.get("kind")).startswith("selector.") else [body.get("on"), body.get("parts")]


def _texts(value: Any) -> Iterator[str]:
    """Yield every text of a job's body, names of its mappings included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in (*value.keys(), *value.values()):
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)


def _needed_by(job: Job, code: str, what: str) -> Conflict:
    return Conflict(code, f"training {job.id} has not ended and needs {what}: wait for its end, or cancel it")


def _some(release_ids: list[str]) -> str:
    more = f" and {len(release_ids) - _SHOWN} more" if len(release_ids) > _SHOWN else ""
    return f"release {', '.join(release_ids[:_SHOWN])}{more}"
