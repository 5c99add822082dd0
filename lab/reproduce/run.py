"""`signalbox reproduce`: queues a grid's conditions as training jobs and measures each when it is done."""

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
from lab.reproduce.session import Session, open_session
from lab.reproduce.task_data import TaskRows
from services.cli.bars import progress_bars, shown
from services.cli.errors import known_errors
from services.cli.output import err, out
from services.cli.progress import follow_into
from shared.contracts.training import parse_training
from shared.names import DEFAULT_TENANT

T = TypeVar("T")


class PendingCondition(NamedTuple):
    """A case to run: its job, and the keys of its training and its outcome."""

    case: Case
    body: dict[str, Any]
    training: str
    key: str


@dataclass(frozen=True, slots=True)
class Run:
    """One table, and the results of its conditions so far."""

    table: str
    grid: Grid
    quick: bool
    cases: Sequence[Case]
    wanted: frozenset[Name]
    session: Session
    folder: Path
    results: dict[Name, ConditionResult] = field(default_factory=dict)

    def write(self) -> list[Path]:
        """Write the report of the results so far; returns its files."""
        others = [
            outcome
            for outcome in self.session.outcomes.of(self.table, quick=self.quick)
            if self.grid.across_bases and outcome.base_id != self.session.base_id
        ]
        return Report(self.table, self.grid, self.quick, self.cases, self.results, others).write(self.folder)


def reproduce(table: str, base: str, data: Path, folder: Path, *, quick: bool, only: Sequence[str]) -> int:
    """Run a table's missing conditions and write its report after each one; returns the exit code."""
    grid = load_grid(table)
    cases = cases_of(grid, quick=quick)
    wanted = frozenset(case.name for case in cases_of(grid, quick=quick, only=only))
    rows = TaskRows(data)
    rows.need(cases)
    session = open_session(base, rows, folder)
    rows.upload(session.client, cases)
    run = Run(table, grid, quick, cases, wanted, session, folder)
    for has_needs in (False, True):
        generation = [case for case in cases if bool(case.needs) is has_needs]
        finish_all([pending for case in generation if (pending := recall_or_prepare(case, run))], run)
    return _print_summary(run)


def recall_or_prepare(case: Case, run: Run) -> PendingCondition | None:
    """The case to run; None if it has an outcome already, is not wanted, or needs a case without an outcome."""
    needed = [run.results.get(name) for name in case.needs]
    made = [result for result in needed if isinstance(result, Outcome)]
    if len(made) < len(needed):
        failed = [name.condition for name in case.needs if isinstance(run.results.get(name), Failure)]
        if failed and case.name in run.wanted:
            run.results[case.name] = Failure("parent_failed", f"condition {', '.join(failed)} failed")
        return None
    pending = _prepare(case, run, made)
    known = run.session.outcomes.get(pending.key)
    if known and not _must_run_again(known, case, run):
        run.results[case.name] = known
        return None
    return pending if case.name in run.wanted else None


def _prepare(case: Case, run: Run, needed: Sequence[Outcome] = ()) -> PendingCondition:
    """The case's job, which names the releases and adapters of the cases that it needs."""
    body = run.session.rows.body(case)
    for outcome in needed:
        if outcome.adapter:
            body["adapters"] = {**body.get("adapters", {}), outcome.body["label"]: outcome.adapter}
        else:
            body["parent"] = outcome.release
    training = training_key(run.session.base_id, body)
    return PendingCondition(case, body, training, outcome_key(run.table, training, run.session.rows.test(case).digest))


def _must_run_again(known: Outcome, case: Case, run: Run) -> bool:
    """Whether a case still to run needs the release or adapter of this outcome, and the system no longer has it."""
    waiting = [other for other in run.cases if case.name in other.needs and other.name in run.wanted]
    return any(_is_to_run(other, run) for other in waiting) and not run.session.has(known)


def _is_to_run(case: Case, run: Run) -> bool:
    first = [run.session.outcomes.get(_prepare(other, run).key) for other in run.cases if other.name in case.needs]
    needed = [outcome for outcome in first if outcome]
    return len(needed) < len(first) or run.session.outcomes.get(_prepare(case, run, needed).key) is None


def finish_all(pending: Sequence[PendingCondition], run: Run) -> None:
    """Queue all cases, so that every trainer has work, then measure them one by one as they finish."""
    jobs = [_or_failure(partial(_queue, one, run.session)) for one in pending]
    bars = progress_bars()
    with shown(bars):
        for one, job in zip(pending, jobs, strict=True):
            name = one.case.name
            run.results[name] = job if isinstance(job, Failure) else _or_failure(partial(_finish, one, job, run, bars))
            run.write()


def _or_failure(work: Callable[[], T]) -> T | Failure:
    """The result of `work`, or its failure; raises retryable errors, such as an unreachable system."""
    try:
        return work()
    except known_errors() as error:
        if error.retryable:
            raise
        return Failure(error.code, error.detail)


def _queue(pending: PendingCondition, session: Session) -> str:
    """Id of the training's job; the job that an earlier run into this folder queued is reused unless it failed."""
    headers = {"Idempotency-Key": session.outcomes.job_key(pending.training)}
    return str(session.client.post("/v1/training/jobs", {**pending.body, "confirm_cost": True}, headers=headers)["id"])


def _finish(pending: PendingCondition, job_id: str, run: Run, bars: Progress) -> ConditionResult:
    """Wait for the job, then measure its result, unless an identical case has been measured."""
    progress: dict[str, Any] = {}
    job = follow_into(run.session.client, bars, job_id, str(pending.case.name), progress.update)
    if job["state"] != "succeeded":
        run.session.outcomes.note_failed(pending.training, job_id)
        error = job["error"] or {}
        return Failure(error.get("code", job["state"]), error.get("detail", f"the job is {job['state']}"))
    known = run.session.outcomes.get(pending.key)
    if known and known.made == made_by(job["result"]):  # an outcome of another release does not count
        return known
    outcome = _outcome(pending, job, progress, run)
    run.session.outcomes.keep(pending.key, outcome)
    return outcome


def _outcome(pending: PendingCondition, job: Mapping[str, Any], progress: Mapping[str, Any], run: Run) -> Outcome:
    """`progress` is the data of all progress events of the job; later values replace earlier ones."""
    session, case, result = run.session, pending.case, job["result"]
    body = parse_training(pending.body)
    release = session.registry.releases.get(DEFAULT_TENANT, result["release"]) if "release" in result else None
    report = release.report if release else result
    found = measure(case, result, release, body.settings.max_length, run.grid, session)
    return Outcome(
        table=run.table,
        condition=case.condition.id,
        text=case.text,
        quick=run.quick,
        base=session.base,
        base_id=session.base_id,
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
        tokens=progress.get("tokens"),
        device=progress.get("device", ""),
        seconds=job["stage_ms"]["running"] / 1000,
        provenance=provenance(),
    )


def _print_summary(run: Run) -> int:
    """Print the files written and the conditions that failed; returns the exit code."""
    for file in run.write():
        out.print(str(file), markup=False)
    failed = {name: result for name, result in run.results.items() if isinstance(result, Failure)}
    for (condition, text), failure in failed.items():
        err.print(f"condition {condition}, {text}: {failure.code}: {failure.detail}", markup=False)
    return 1 if failed else 0
