"""`signalbox reproduce`: a grid's conditions as queued training jobs, each measured when it is done."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from rich.progress import Progress

from lab.reproduce.grid import Case, Grid, Name, cases_of, load_grid
from lab.reproduce.measure import measure
from lab.reproduce.provenance import provenance
from lab.reproduce.report import Report
from lab.reproduce.results_store import ConditionResult, Failure, Outcome, made_by, outcome_key, training_key
from lab.reproduce.session import Session, open_bench
from lab.reproduce.task_data import TaskRows
from services.cli.errors import known_errors
from services.cli.output import err, out
from services.cli.progress import follow_into, progress_bars
from shared.contracts.training import parse_training
from shared.names import DEFAULT_TENANT

T = TypeVar("T")


class PendingCondition(NamedTuple):
    """A case to run: its job, and what names the training and the outcome."""

    case: Case
    body: dict[str, Any]
    training: str
    key: str


@dataclass(frozen=True, slots=True)
class Run:
    """One table, and what has come of its conditions so far."""

    table: str
    grid: Grid
    quick: bool
    cases: Sequence[Case]
    wanted: frozenset[Name]
    bench: Session
    folder: Path
    came: dict[Name, ConditionResult] = field(default_factory=dict)

    def write(self) -> list[Path]:
        """Write the report of what has come so far; answers its files."""
        others = [
            outcome
            for outcome in self.bench.outcomes.of(self.table, quick=self.quick)
            if self.grid.across_bases and outcome.base_id != self.bench.base_id
        ]
        return Report(self.table, self.grid, self.quick, self.cases, self.came, others).write(self.folder)


def reproduce(table: str, base: str, data: Path, folder: Path, *, quick: bool, only: Sequence[str]) -> int:
    """Run what is missing of a table, write its report after each condition; answers the exit code."""
    grid = load_grid(table)
    cases = cases_of(grid, quick=quick)
    wanted = frozenset(case.name for case in cases_of(grid, quick=quick, only=only))
    rows = TaskRows(data)
    rows.need(cases)
    bench = open_bench(base, rows, folder)
    rows.upload(bench.client, cases)
    run = Run(table, grid, quick, cases, wanted, bench, folder)
    for has_needs in (False, True):
        generation = [case for case in cases if bool(case.needs) is has_needs]
        finish_all([asked for case in generation if (asked := recalled_or_asked(case, run))], run)
    return _tell(run)


def recalled_or_asked(case: Case, run: Run) -> PendingCondition | None:
    """The case to run; None where it has an outcome already, was not asked for, or what it needs has none."""
    needed = [run.came.get(name) for name in case.needs]
    made = [came for came in needed if isinstance(came, Outcome)]
    if len(made) < len(needed):
        failed = [name.condition for name in case.needs if isinstance(run.came.get(name), Failure)]
        if failed and case.name in run.wanted:
            run.came[case.name] = Failure("parent_failed", f"condition {', '.join(failed)} failed")
        return None
    asked = _asked(case, run, made)
    known = run.bench.outcomes.get(asked.key)
    if known and not _is_missed(known, case, run):
        run.came[case.name] = known
        return None
    return asked if case.name in run.wanted else None


def _asked(case: Case, run: Run, needed: Sequence[Outcome] = ()) -> PendingCondition:
    """The case's job, which names what the cases it needs have made."""
    body = run.bench.rows.body(case)
    for outcome in needed:
        if outcome.adapter:
            body["adapters"] = {**body.get("adapters", {}), outcome.body["label"]: outcome.adapter}
        else:
            body["parent"] = outcome.release
    training = training_key(run.bench.base_id, body)
    return PendingCondition(case, body, training, outcome_key(run.table, training, run.bench.rows.test(case).digest))


def _is_missed(known: Outcome, case: Case, run: Run) -> bool:
    """Whether a case that is still to run needs what this outcome made, and the system has it no more."""
    waiting = [other for other in run.cases if case.name in other.needs and other.name in run.wanted]
    return any(_is_to_run(other, run) for other in waiting) and not run.bench.has(known)


def _is_to_run(case: Case, run: Run) -> bool:
    first = [run.bench.outcomes.get(_asked(other, run).key) for other in run.cases if other.name in case.needs]
    needed = [outcome for outcome in first if outcome]
    return len(needed) < len(first) or run.bench.outcomes.get(_asked(case, run, needed).key) is None


def finish_all(asked: Sequence[PendingCondition], run: Run) -> None:
    """Queue all, so that every trainer has work, then measure one after the other as they end."""
    jobs = [_tried(partial(_queue, one, run.bench)) for one in asked]
    with progress_bars() as bars:
        for one, job in zip(asked, jobs, strict=True):
            run.came[one.case.name] = job if isinstance(job, Failure) else _tried(partial(_finish, one, job, run, bars))
            run.write()


def _tried(work: Callable[[], T]) -> T | Failure:
    """What the work answers, or why it failed; raises what a later run may mend by itself: the system is away."""
    try:
        return work()
    except known_errors() as error:
        if error.retryable:
            raise
        return Failure(error.code, error.detail)


def _queue(asked: PendingCondition, bench: Session) -> str:
    """Id of the training's job: the one that an earlier run into this folder has queued, unless that failed."""
    headers = {"Idempotency-Key": bench.outcomes.job_key(asked.training)}
    return str(bench.client.post("/v1/training/jobs", asked.body, headers=headers)["id"])


def _finish(asked: PendingCondition, job_id: str, run: Run, bars: Progress) -> ConditionResult:
    """Wait for the job, then route the test rows with the selector it made, unless a twin of the case has done that."""
    heard: dict[str, Any] = {}
    job = follow_into(run.bench.client, bars, job_id, str(asked.case.name), heard.update)
    if job["state"] != "succeeded":
        run.bench.outcomes.note_failed(asked.training, job_id)
        error = job["error"] or {}
        return Failure(error.get("code", job["state"]), error.get("detail", f"the job is {job['state']}"))
    known = run.bench.outcomes.get(asked.key)
    if known and known.made == made_by(job["result"]):  # not what is known of a release the system lacks
        return known
    outcome = _outcome(asked, job, heard, run)
    run.bench.outcomes.keep(asked.key, outcome)
    return outcome


def _outcome(asked: PendingCondition, job: Mapping[str, Any], heard: Mapping[str, Any], run: Run) -> Outcome:
    """`heard` is everything that the job's progress events told, the last one's word counting."""
    bench, case, result = run.bench, asked.case, job["result"]
    body = parse_training(asked.body)
    release = bench.registry.releases.get(DEFAULT_TENANT, result["release"]) if "release" in result else None
    report = release.report if release else result
    found = measure(case, result, release, body.settings.max_length, run.grid, bench)
    return Outcome(
        table=run.table,
        condition=case.condition.id,
        text=case.text,
        quick=run.quick,
        base=bench.base,
        base_id=bench.base_id,
        job=job["id"],
        release=result.get("release", ""),
        adapter=result.get("adapter", ""),
        body=body.model_dump(mode="json"),
        measured=found.by_part,
        measures=dict(found.measures),
        validation=report.get("parts", {}),
        chosen={label: own["chosen"] for label, own in report.get("data", {}).get("labels", {}).items()},
        warnings=report.get("warnings", []),
        deleted=dict(found.deleted),
        tokens=heard.get("tokens"),
        device=heard.get("device", ""),
        seconds=job["stage_ms"]["running"] / 1000,
        provenance=provenance(),
    )


def _tell(run: Run) -> int:
    """Say which files were written and which conditions failed; answers the exit code."""
    for file in run.write():
        out.print(str(file), markup=False)
    failed = {name: came for name, came in run.came.items() if isinstance(came, Failure)}
    for (condition, text), failure in failed.items():
        err.print(f"condition {condition}, {text}: {failure.code}: {failure.detail}", markup=False)
    return 1 if failed else 0
