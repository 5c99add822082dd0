"""What a training makes over another adapter: their sum, which is published, measured beside both of its parts."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from services.trainer.context import TrainingContext
from services.trainer.evaluation.arms import judge, measures_of
from services.trainer.jobs.parts import Measured, fetched, measure, slots_of
from shared.adapter_files import BaseShapes, adapter_digest, check_adapter
from shared.contracts.compose import AdapterPart
from shared.contracts.rows import Row
from shared.contracts.training_tasks import AdapterTrain
from shared.registry.parts import FoundPart

AdapterContext = TrainingContext[AdapterTrain]
TASK = "task"
"""The arm of what the training made, without the adapter below it."""


class Trained(NamedTuple):
    """What a training has made: the folder to publish, that of its own LoRA, and the adapter below, if there is one."""

    folder: Path
    task: Path
    below: tuple[FoundPart, ...] = ()
    below_folder: Path | None = None
    rank: int = 0

    @property
    def parts(self) -> tuple[AdapterPart, ...]:
        """The parts of the folder; none for a training on the base model alone."""
        if not self.below:
            return ()
        return (*(one.part for one in self.below), AdapterPart(digest=adapter_digest(self.task)))


def warnings(label: str, below: Sequence[FoundPart]) -> Iterator[str]:
    """Yield what is said of an adapter that is trained over its own label's."""
    for one in below:
        if one.manifest.label == label:
            yield (
                f"{one.part.name} is the label's own: what it has learnt stays as it is, a second LoRA is trained over "
                "it, and their ranks add up; leave out `on` to train the label anew"
            )


def composed(context: AdapterContext, below: Sequence[FoundPart], task: Path) -> Trained:
    """Return what is to be published: over another adapter, the exact sum of both."""
    if not below:
        return Trained(task, task)
    from services.trainer.training.compose import Part, stack

    clients, parts = context.clients, fetched(context, below)
    base = BaseShapes.from_folder(clients.base_folder)
    folder = stack([*parts, Part(task)], base, clients.base_model, task.with_name("composed"))
    rank = check_adapter(folder, base, clients.adapter_limits).rank
    return Trained(folder, task, tuple(below), parts[0].folder, rank)


def measured(context: AdapterContext, made: Trained, rows: Sequence[Row]) -> tuple[dict[str, Any], Any]:
    """Measure the four arms, and judge the sum by its parts; returns also the model with the sum active."""
    measures = measures_of([row.output for row in rows])
    plan = [
        Measured("base", "base"),
        Measured(made.below[0].part.name, "part", made.below_folder),
        Measured(TASK, "part", made.task),
        Measured("composition", "composition", made.folder),
    ]
    arms, model = measure(context, plan, rows, measures)
    verdict = judge(arms, measures.deciding)
    found = {
        **facts(made),
        "base_exact_match": round(arms[0].mean("exact_match"), 4),
        "adapter_exact_match": round(arms[-1].mean("exact_match"), 4),
        "measure": measures.deciding,
        "arms": [arm.as_result() for arm in arms],
        "published": verdict.published,
        "why": verdict.why,
    }
    return found, model


def facts(made: Trained) -> dict[str, Any]:
    """Return what a result says of a sum, measured or not."""
    if not made.below:
        return {}
    parts = [part.model_dump(mode="json", include={"ref", "digest", "weight"}) for part in made.parts]
    return {"on": made.below[0].part.name, "rank": made.rank, "slots": slots_of(made.rank), "parts": parts}


def stored_parts(context: AdapterContext, made: Trained) -> tuple[AdapterPart, ...]:
    """Store the training's own LoRA, by which the sum can be composed again; returns the parts for the manifest."""
    if made.below:
        context.registry.weights.put(made.task)
    return made.parts
