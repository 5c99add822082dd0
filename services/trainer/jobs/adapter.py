"""The job `adapter.train`: one label's rows in, a registered and measured adapter out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from services.trainer.context import Workshop
from services.trainer.data.report import one_output_warning
from services.trainer.data.task_rows import as_training, task_rows
from services.trainer.evaluation.exact_match import exact_match_of
from shared.adapter_files import AdapterLimits, BaseShapes, check_adapter
from shared.contracts.jobs import Job
from shared.contracts.manifests import AdapterManifest
from shared.contracts.rows import Row
from shared.contracts.training import AdapterTrain
from shared.worker.leases import Held


def train_adapter(job: Job, held: Held, body: AdapterTrain, workshop: Workshop) -> dict[str, Any]:
    """Train, measure against the base model on rows not trained on, store and register (paper, section 3.2)."""
    from services.trainer.training import lora

    train, validation = task_rows(
        job, body.label, body.dataset, workshop, validation=body.validation, seed=body.settings.seed
    )
    warnings = _warnings(job, body.label, train, workshop)
    folder = workshop.folder(job)
    adapter = lora.train_adapter(
        workshop.base_folder,
        workshop.tokenizer,
        as_training(train),
        config=body.settings,
        work_dir=folder,
        hooks=workshop.hooks(job, held, body.kind),
        resume_from=workshop.resume_from(job, folder),
        launcher=workshop.training_launcher,
    )
    held.check()
    workshop.report(job, "evaluating")
    scores = compare_with_base(adapter, validation[: body.evaluate_rows], body, held, workshop)
    info = check_adapter(adapter, BaseShapes.from_folder(workshop.base_folder), AdapterLimits())
    manifest = workshop.registry.add_adapter(
        adapter,
        AdapterManifest(
            tenant_id=job.tenant_id,
            label=body.label,
            version=0,
            digest="",
            base_model=workshop.base_model,
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
    adapter: Any, rows: Sequence[Row], body: AdapterTrain, held: Held, workshop: Workshop
) -> dict[str, Any]:
    """Exact match of the adapter and of the base model alone on the same rows."""
    from shared.model.base import load_model
    from shared.model.merge import with_adapter

    if not rows:
        return {}
    model = load_model(workshop.base_folder, "float32")
    return {
        "validation_rows": len(rows),
        "base_exact_match": exact_match_of(model, rows, body.settings, held, workshop),
        "adapter_exact_match": exact_match_of(with_adapter(model, adapter), rows, body.settings, held, workshop),
    }


def _warnings(job: Job, label: str, train: Sequence[Row], workshop: Workshop) -> list[str]:
    """What is wrong with the rows though they can be trained on; the job's readers hear it before that."""
    found = [warning for warning in [one_output_warning(label, [row.output for row in train])] if warning]
    if found:
        workshop.report(job, "data_checked", warnings=found)
    return found


def _commonest_instruction(rows: Sequence[Row]) -> str:
    return Counter(row.instruction for row in rows).most_common(1)[0][0]
