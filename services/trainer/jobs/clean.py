"""The job `corpus.clean`: raw files become documents to train on, by five modules (decision 54)."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.trainer.context import TrainingContext
from shared.contracts.corpora import CorpusFile, CorpusManifest, ModuleCount, corpus_id
from shared.contracts.corpus_clean import CleanResult, CorpusClean, ModuleReport
from shared.contracts.times import utc_now
from shared.errors import Invalid

if TYPE_CHECKING:
    from services.trainer.corpus.first_pass import Job
    from services.trainer.corpus.parts import Parts
    from services.trainer.corpus.quality import Quality

CleanContext = TrainingContext[CorpusClean]
_LIKED = 0.5
"""Of a corpus, what is good enough to learn from where nobody names anything better."""
_NAMED = 5
"""Files that an error names."""


def clean_corpus(context: CleanContext) -> dict[str, Any]:
    """Clean a corpus into another one; raises `Invalid` where files cannot be read or nothing is left."""
    from services.trainer.corpus.first_pass import Job, first_pass
    from services.trainer.corpus.parts import Parts
    from services.trainer.corpus.second_pass import joined, second_pass
    from services.trainer.corpus.tally import together

    raw, begun_at = _pinned(context)
    folder, store = context.folder(), context.registry.store
    job = Job(context.body, raw.files, _fetching(context, raw), folder, context.check, context.report)
    read, kept = (Parts(store, context.job.id, stage, folder) for stage in ("read", "kept"))
    first = first_pass(job, read)
    notes = [*dict.fromkeys(note for part in first for note in part["notes"])]
    notes += _unreadable(job, raw, first)
    numbers = range(len(first))
    quality = _quality(context, job, read, first, notes)
    second = second_pass(job, numbers, read, kept, quality)
    reports = together([*first, *second])
    _check_left(raw, first, reports)
    joined(numbers, kept, folder / "cleaned")
    return _published(context, raw, folder / "cleaned", reports, notes, begun_at)


def _pinned(context: CleanContext) -> tuple[CorpusManifest, str]:
    """Return the corpus as it was at the first attempt, and when that was: every attempt makes the same record."""

    def found() -> dict[str, Any]:
        manifest = context.registry.corpora.get(context.job.tenant_id, context.body.corpus)
        return {"corpus": manifest.model_dump(mode="json"), "at": utc_now()}

    pinned = context.checkpoints().once("corpus", found)
    return CorpusManifest.model_validate(pinned["corpus"]), str(pinned["at"])


def _fetching(context: CleanContext, raw: CorpusManifest) -> Any:
    def fetch(file: CorpusFile, path: Path) -> None:
        context.registry.corpora.fetch(raw.tenant_id, file, path)

    return fetch


def _unreadable(job: "Job", raw: CorpusManifest, first: list[dict[str, Any]]) -> list[str]:
    """Return notes of files that were left out; raises `Invalid` where the job takes none without them."""
    found = [*dict.fromkeys(file for part in first for file in part["unreadable"])]
    if found and job.body.unreadable == "refuse":
        more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise Invalid(
            "corpus_unreadable",
            f"{len(found)} of {len(raw.files)} files of corpus {raw.name!r} cannot be read: "
            f"{'; '.join(found[:_NAMED])}{more}. Mend them and add the corpus anew, or send `unreadable`: `leave_out`",
        )
    if not sum(part["documents"] for part in first):
        raise Invalid("corpus_empty", f"corpus {raw.name!r} has no documents ({_few(found)}): add files that hold text")
    return [f"left out: {one}" for one in found]


def _few(found: list[str]) -> str:
    return "; ".join(found[:_NAMED]) or "its files are empty"


def _quality(
    context: CleanContext, job: "Job", read: "Parts", first: list[dict[str, Any]], notes: list[str]
) -> "Quality | None":
    """Return the quality filter, fitted by the first attempt; None where it is off, or there is too little to fit."""
    from services.trainer.corpus.quality import LEAST_TEXTS, Quality
    from services.trainer.corpus.second_pass import fitted, sample_of

    if context.body.quality_filter is None:
        return None
    job.report("fitting_quality_filter")

    def fit() -> dict[str, Any]:
        rejected = (text for part in first for text in part["rejected"])
        good, liked = _good(context, job, read, len(first))
        found = fitted(sample_of(good, rejected, liked=liked))
        return found.as_fields() if found else {}

    stored = context.checkpoints().once("quality", fit)
    if not stored:
        notes.append(f"the quality filter let all through: it needs {LEAST_TEXTS} good texts of 100 characters to fit")
        return None
    quality = Quality.of_fields(stored)
    notes.append(
        f"the quality filter was fitted on {quality.texts} texts and tells {quality.right:.3f} of others apart"
    )
    return quality


def _good(context: CleanContext, job: "Job", read: "Parts", parts: int) -> tuple[Iterable[tuple[str, float]], float]:
    """Return texts, each with how much the rules like it, and the share of them that is taken for good."""
    settings, registry, tenant_id = context.body.quality_filter, context.registry, context.job.tenant_id
    assert settings
    if settings.good_corpus:
        return _texts(context, job, registry.corpora.get(tenant_id, settings.good_corpus)), 1.0
    own = ((line["text"], line["liking"]) for number in range(parts) for line in read.lines(number))
    return own, _LIKED


def _texts(context: CleanContext, job: "Job", good: CorpusManifest) -> Iterator[tuple[str, float]]:
    if not good.documents:
        raise Invalid("corpus_raw", f"good texts come from a cleaned corpus and {good.name!r} is none: clean it first")
    path = job.folder / "good"
    context.registry.corpora.fetch(good.tenant_id, good.files[0], path)
    with path.open("rb") as lines:
        for line in lines:
            yield json.loads(line)["text"], 1.0


def _check_left(raw: CorpusManifest, first: list[dict[str, Any]], reports: dict[str, ModuleReport]) -> None:
    last = next(reversed(reports.values()), None)
    if last is None or last.documents_out:
        return
    took = [
        f"{name} took {one.documents_in - one.documents_out} ({_reasons(one)})"
        for name, one in reports.items()
        if one.documents_in > one.documents_out
    ]
    raise Invalid(
        "corpus_filtered_away",
        f"nothing is left of the {sum(part['documents'] for part in first)} documents of corpus {raw.name!r}: "
        f"{'; '.join(took)}: change the module's settings, or leave it out (`signalbox train clean --without`)",
    )


def _reasons(report: ModuleReport) -> str:
    most = sorted(report.taken.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{count} {reason}" for reason, count in most[:_NAMED])


def _published(
    context: CleanContext,
    raw: CorpusManifest,
    path: Path,
    reports: dict[str, ModuleReport],
    notes: list[str],
    begun_at: str,
) -> dict[str, Any]:
    """Store the cleaned corpus; every attempt at the job stores the same one."""
    name = context.body.name or f"{raw.name[: 64 - len('-clean')]}-clean"
    with path.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    manifest = CorpusManifest(
        tenant_id=raw.tenant_id,
        id=corpus_id(context.job.id),
        name=name,
        files=(CorpusFile(name=f"{name}.jsonl", sha256=sha256, size_bytes=path.stat().st_size),),
        documents=_lines_in(path),
        made_from=raw.id,
        made_by=context.job.id,
        modules={module: ModuleCount.model_validate(one.model_dump()) for module, one in reports.items()},
        created_at=begun_at,
    )
    context.check()
    context.registry.corpora.add_made(manifest, path)
    result = CleanResult(
        corpus=manifest.id,
        name=name,
        made_from=raw.id,
        documents=manifest.documents,
        size_bytes=manifest.size_bytes,
        modules=reports,
        notes=tuple(notes),
    )
    return result.model_dump(mode="json")


def _lines_in(path: Path) -> int:
    with path.open("rb") as lines:
        return sum(1 for _ in lines)
