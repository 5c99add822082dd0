"""The job `adapter.train`: one label's rows in, a registered and measured adapter out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from services.trainer.context import TrainingContext
from services.trainer.data.report import one_output_warning
from services.trainer.data.task_rows import as_training, task_rows
from services.trainer.evaluation.exact_match import exact_match_of
from shared.adapter_files import AdapterLimits, BaseShapes, check_adapter
from shared.contracts.jobs import Job
from shared.contracts.manifests import AdapterManifest
from shared.contracts.rows import Row
from shared.contracts.training import AdapterTrain
from shared.worker.leases import HeldJob


def train_adapter(job: Job, held: HeldJob, body: AdapterTrain, context: TrainingContext) -> dict[str, Any]:
    """Train, measure against the base model on rows not trained on, store and register (paper, section 3.2)."""
    from services.trainer.training import lora

    train, validation = task_rows(
        job, body.label, body.dataset, context, validation=body.validation, seed=body.settings.seed
    )
    warnings = _warnings(job, body.label, train, context)
    folder = context.folder(job)
    adapter = lora.train_adapter(
        context.base_folder,
        context.tokenizer,
        as_training(train),
        config=body.settings,
        work_dir=folder,
        callbacks=context.callbacks(job, held, body.kind),
        resume_from=context.resume_from(job, folder),
        launcher=context.training_launcher,
    )
    held.check()
    context.report(job, "evaluating")
    scores = compare_with_base(adapter, validation[: body.evaluate_rows], body, held, context)
    info = check_adapter(adapter, BaseShapes.from_folder(context.base_folder), AdapterLimits())
    manifest = context.registry.adapters.add(
        adapter,
        AdapterManifest(
            tenant_id=job.tenant_id,
            label=body.label,
            version=0,
            digest="",
            base_model=context.base_model,
            template=body.settings.template,
            instruction=body.instruction or _commonest_instruction(train),
            info=asdict(info),
            report=scores,
            made_by=job.id,
        ),
    )
    made = {"adapter": manifest.digest, "ref": manifest.ref, "label": body.label, "train_rows": len(train)}
    return {**made, **scores, "warnings": warnings}


def compare_with_base(
    adapter: Any, rows: Sequence[Row], body: AdapterTrain, held: HeldJob, context: TrainingContext
) -> dict[str, Any]:
    """Exact match of the adapter and of the base model alone on the same rows."""
    from shared.model.base import load_model
    from shared.model.merge import with_adapter

    if not rows:
        return {}
    model = load_model(context.base_folder, "float32")
    return {
        "validation_rows": len(rows),
        "base_exact_match": exact_match_of(model, rows, body.settings, held, context),
        "adapter_exact_match": exact_match_of(with_adapter(model, adapter), rows, body.settings, held, context),
    }


def _warnings(job: Job, label: str, train: Sequence[Row], context: TrainingContext) -> list[str]:
    """What is wrong with the rows though they can be trained on; the job's readers hear it before that."""
    found = [warning for warning in [one_output_warning(label, [row.output for row in train])] if warning]
    if found:
        context.report(job, "data_checked", warnings=found)
    return found


def _commonest_instruction(rows: Sequence[Row]) -> str:
    return Counter(row.instruction for row in rows).most_common(1)[0][0]
