"""Which jobs wait for a reviewer, and why: those of which most can be learnt."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from services.api.infra.clients import Clients
from services.api.jobs.feedback import Entry, conflict_of, history_of
from shared.contracts.generation import SelectionResult, generation_result, select_body, selection_of
from shared.contracts.jobs import JobKind, ListedJob
from shared.contracts.labels import BACKGROUND
from shared.ledger import calls
from shared.ledger.calls import JobFilter, Large

Why = Literal["low", "rejected", "down", "conflict", "disputed"]
WHYS: dict[Why, str] = {
    "low": "Least sure",
    "rejected": "Rejected",
    "down": "Thumbs down",
    "conflict": "People at odds",
    "disputed": "Parts at odds",
}
HINTS: dict[Why, str] = {
    "low": "Jobs that were selected, tenth by tenth of their best label's probability, the lowest first.",
    "rejected": "Jobs for which the selector found no label.",
    "down": "Jobs whose answer somebody called wrong, and that no reviewer has judged.",
    "conflict": "Jobs to which two keys gave different labels: none of it trains until a reviewer settles it.",
    "disputed": "Jobs between two labels, or for which words were not sure and the language model had to decide, or "
    "whose conversation stood for another label than their own text.",
}
SHOWN = 20
KEYS_SHOWN = 9
"""Labels that have a digit as their key."""
_MOST_CALLS = 5
_TENTHS = 9
"""Of the probability, from the lowest; above it a selection counts as sure."""
_INCLUDE: tuple[Large, ...] = ("body", "result", "feedback")


class Candidate(NamedTuple):
    """A label that may be the right one, and its probability where the selection says one."""

    label: str
    probability: float | None


class Item(NamedTuple):
    """One job to judge."""

    job: ListedJob
    text: str
    answer: str
    selection: SelectionResult | None
    candidates: list[Candidate]
    said: list[Entry]

    @property
    def conflict(self) -> list[Entry]:
        """The labels about which keys differ."""
        return conflict_of(self.said)

    @property
    def judged(self) -> Entry | None:
        """What a reviewer said of it; None where none did, or keys differ about its label."""
        return None if self.conflict else next((entry for entry in reversed(self.said) if entry["reviewed"]), None)


class Found(NamedTuple):
    """A page of the queue, and the cursor of the next one; empty after the last."""

    items: list[Item]
    next: str


async def waiting(clients: Clients, tenant_id: str, why: Why, cursor: str, labels: Sequence[str]) -> Found:
    """Return the jobs that nobody has judged yet, those to learn most from first."""
    if why == "low":
        found, after = await _least_sure(clients, tenant_id, cursor)
        found.sort(key=lambda job: (job.selection or {}).get("probability") or 0.0)
    else:
        only = {
            "rejected": JobFilter(rejected=True, feedback=False),
            "disputed": JobFilter(disputed=True, feedback=False),
            "down": JobFilter(feedback=True),
            "conflict": JobFilter(conflict=True),
        }[why]
        found, after = await _some(clients, tenant_id, only, cursor, SHOWN, _is_down if why == "down" else _is_open)
    return Found([item_of(job, labels) for job in found], after)


async def _least_sure(clients: Clients, tenant_id: str, cursor: str) -> tuple[list[ListedJob], str]:
    """Go through the tenths of the probability, from the lowest; a cursor names the tenth and the job in it."""
    begin, _, before = cursor.partition("-")
    found: list[ListedJob] = []
    for tenth in range(int(begin or 0), _TENTHS):
        only = JobFilter(min_probability=tenth / 10, max_probability=(tenth + 1) / 10 - 1e-9, feedback=False)
        more, before = await _some(clients, tenant_id, only, before, SHOWN - len(found), _is_open)
        found += more
        if before or len(found) >= SHOWN:
            return found, f"{tenth}-{before}" if before else f"{tenth + 1}-"
    return found, ""


async def _some(
    clients: Clients, tenant_id: str, only: JobFilter, before: str, limit: int, fits: Callable[[ListedJob], bool]
) -> tuple[list[ListedJob], str]:
    """Return up to so many jobs that fit, and where to go on; empty at the end."""
    found: list[ListedJob] = []
    for _ in range(_MOST_CALLS):
        cursor = f"({before}" if before else ""
        call = calls.list_jobs(tenant_id, limit=limit - len(found), before=cursor, only=only, include=_INCLUDE)
        page = await clients.ledger.do(call)
        found += filter(fits, page.jobs)
        before = page.next.removeprefix("(")
        if len(found) >= limit or not before:
            break
    return found, before


def _is_open(job: ListedJob) -> bool:
    return job.state.is_final and job.kind is not JobKind.TRAIN


def _is_down(job: ListedJob) -> bool:
    return (job.feedback or {}).get("rating") == -1 and not any(entry["reviewed"] for entry in history_of(job))


def item_of(job: ListedJob, labels: Sequence[str]) -> Item:
    """Return what the page shows of a job; `labels` are those of the release, by name."""
    result = generation_result(job) if job.kind is JobKind.GENERATE else None
    selection = selection_of(job)
    return Item(
        job=job,
        text=select_body(job).last_user_text,
        answer=result.text if result else "",
        selection=selection,
        candidates=candidates(selection, job.label, labels),
        said=history_of(job),
    )


def candidates(selection: SelectionResult | None, named: str, labels: Sequence[str]) -> list[Candidate]:
    """Return the labels that get a key: the most probable ones, the label that was named, then others by name."""
    known: dict[str, float | None] = {}
    if selection and selection.best_label:
        known[selection.best_label] = selection.probability
        known |= {one.label: one.probability for one in selection.runners_up}
        known |= {label: None for label in selection.label_set if label not in known}
    for label in (named, *labels[:KEYS_SHOWN]):
        if label and label not in known:
            known[label] = None
    known.pop(BACKGROUND, None)
    return [Candidate(*one) for one in list(known.items())[:KEYS_SHOWN]]
