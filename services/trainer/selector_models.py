"""The parts of a selector in a training job: fitted, stored, calibrated, and judged against the release before."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from services.trainer.domain.calibration import Aim
from services.trainer.domain.gate import judge
from services.trainer.domain.metrics import Routed, fates, measure
from services.trainer.selector_plans import Plan
from services.trainer.selector_rows import Rows, texts_of
from services.trainer.workshop import Workshop
from shared.contracts.jobs import Job
from shared.contracts.labels import REJECT, Label, parse_label
from shared.contracts.manifests import ReleaseSelector, Verdict
from shared.contracts.prompts import selector_prompt
from shared.contracts.training import SelectorBody
from shared.model.head import has_head
from shared.model.tokens import encode
from shared.worker.leases import Held

if TYPE_CHECKING:
    from services.trainer.infra.fit import Start
    from services.trainer.infra.select_scores import Opinions, Reader


class Judged(BaseModel):
    """A trained selector with its calibration, its metrics on the validation rows, and the gate's answer."""

    model_config = ConfigDict(frozen=True)

    selector: ReleaseSelector
    report: dict[str, Any]
    verdict: Verdict


def train_selector(
    job: Job, held: Held, body: SelectorBody, plan: Plan, retention: float, workshop: Workshop
) -> ReleaseSelector:
    """Fit and store what the plan's kind is made of; nothing is calibrated yet."""
    return ReleaseSelector(
        llm=_fit_llm(job, held, body, plan, retention, workshop) if plan.kind != "light" else "",
        light=_fit_light(job, held, plan, workshop) if plan.kind != "llm" else "",
        labels=tuple(plan.scored_labels),
        text=plan.text,
    )


def _fit_llm(job: Job, held: Held, body: SelectorBody, plan: Plan, retention: float, workshop: Workshop) -> str:
    from services.trainer.infra import fit
    from services.trainer.infra.representation import mixed

    run = f"{retention:g}"
    folder = workshop.folder(job)
    labels = [parse_label(label) for label in plan.scored_labels]
    start = _start(plan, workshop)
    shown = texts_of(plan.shown(retention, body.settings.seed))
    if start and not shown:
        return workshop.registry.put_weights(fit.carry_over(start, labels, folder))
    weights = fit.train_selector(
        workshop.base_folder,
        workshop.tokenizer,
        mixed(shown, body.settings.seed, equal=start is None),
        labels=labels,
        config=body.settings,
        work_dir=folder,
        hooks=workshop.hooks(job, held, body.kind, run),
        resume_from=workshop.resume_from(job, folder, run),
        launcher=workshop.training_launcher,
        start_from=start,
        head=has_head(start.weights) if start else _wants_head(plan, labels, body.settings.max_length, workshop),
    )
    return workshop.registry.put_weights(weights)


def _start(plan: Plan, workshop: Workshop) -> "Start | None":
    from services.trainer.infra.fit import Start

    old = plan.start_from
    return (
        Start(workshop.registry.fetch_weights(old.llm), [parse_label(label) for label in old.labels]) if old else None
    )


def _wants_head(plan: Plan, labels: Sequence[Label], max_length: int, workshop: Workshop) -> bool:
    if plan.readout != "auto":
        return plan.readout == "head"
    return 2 * len(encode(workshop.tokenizer, selector_prompt("", labels), sys.maxsize)) > max_length


def _fit_light(job: Job, held: Held, plan: Plan, workshop: Workshop) -> str:
    """Fit the light selector on all representative rows, those of old labels too: so it forgets nothing."""
    from services.trainer.infra.fit_light import fit_light

    def fitted() -> dict[str, str]:
        held.check()
        workshop.report(job, "fitting_light_selector", rows=sum(map(len, plan.sets.representation.values())))
        light = fit_light(texts_of(plan.sets.representation))
        with workshop.temporary() as folder:
            return {"digest": workshop.registry.put_light(light.save(folder / "light.safetensors"))}

    # No retention ratio changes it, so that a job that tries several fits it once.
    return str(workshop.checkpoints(job).once("light", fitted)["digest"])


def judge_selector(selector: ReleaseSelector, held: Held, body: SelectorBody, plan: Plan, workshop: Workshop) -> Judged:
    """Calibrate and measure on the validation rows, and compare with the release before."""
    from services.trainer.infra.select_scores import calibrated

    validation = plan.sets.validation
    reader = _reader(held, body, workshop)
    gold = _gold(validation)
    opinions = reader.read(selector, _all(validation))
    aim = Aim(
        body.max_false_reject,
        body.background_reject,
        min_llm_share=body.min_llm_share,
        max_llm_share=body.max_llm_share,
    )
    final, threshold = calibrated(selector, opinions, gold, aim)
    measured = measure(_routed(final, opinions, validation))
    before = _accuracy_before(plan, held, body, workshop)
    verdict = judge(before, measured.per_label, min_accuracy=body.min_accuracy, max_loss=body.max_loss)
    report = {
        **measured._asdict(),
        "threshold": threshold._asdict(),
        "before": before,
        "asked": _asked(final, opinions),
        "parts": _accuracy_of_parts(final, opinions, validation),
        **plan.notes,
    }
    if plan.deleted:
        report["deleted"] = _fates_of_deleted(final, reader, plan.deleted)
    return Judged(
        selector=final, report=report, verdict=Verdict(passed=verdict.passed, reasons=tuple(verdict.sentences))
    )


def _fates_of_deleted(selector: ReleaseSelector, reader: "Reader", deleted: Rows) -> dict[str, Any]:
    """What becomes of the texts of labels that are gone, by label."""
    opinions = reader.read(selector, _all(deleted))
    return {label: fate._asdict() for label, fate in fates(_routed(selector, opinions, deleted)).items()}


def _accuracy_before(plan: Plan, held: Held, body: SelectorBody, workshop: Workshop) -> Mapping[str, float] | None:
    """What the parent reaches per kept label on the same rows; None where it has none of the labels."""
    if plan.parent is None or plan.parent.selector is None:
        return None
    if plan.start_from and "per_label" in plan.parent.report:  # measured on the very rows that come with it
        return dict(plan.parent.report["per_label"])
    if not plan.kept_validation:
        return None
    selector = plan.parent.selector
    opinions = _reader(held, body, workshop).read(selector, _all(plan.kept_validation))
    return measure(_routed(selector, opinions, plan.kept_validation)).per_label


def _reader(held: Held, body: SelectorBody, workshop: Workshop) -> "Reader":
    from services.trainer.infra.select_scores import Reader

    return Reader(
        workshop.registry, workshop.base_folder, workshop.tokenizer, body.settings.max_length, check=held.check
    )


def _routed(selector: ReleaseSelector, opinions: "Opinions", rows: Rows) -> list[Routed]:
    from services.trainer.infra.select_scores import route_rows

    return route_rows(selector, opinions, _gold(rows))


def _accuracy_of_parts(selector: ReleaseSelector, opinions: "Opinions", rows: Rows) -> dict[str, float]:
    """Accuracy of the selector and of each part alone on the rows that belong somewhere, where nothing is rejected."""
    from services.trainer.infra.select_scores import parts_of

    def accuracy(part: ReleaseSelector) -> float:
        return measure([row for row in _routed(part, opinions, rows) if row.gold != REJECT]).accuracy

    return {kind: accuracy(part) for kind, part in parts_of(selector).items()}


def _asked(selector: ReleaseSelector, opinions: "Opinions") -> dict[str, float]:
    """The share of rows that the light selector, the language model, or both together decided."""
    from services.trainer.infra.select_scores import selections

    asked = Counter(said.by for said in selections(selector, opinions))
    return {by: rows / asked.total() for by, rows in asked.items()}


def _all(rows: Rows) -> Sequence[str]:
    return [row.input for own in rows.values() for row in own]


def _gold(rows: Rows) -> list[str]:
    return [label for label, own in rows.items() for _ in own]
