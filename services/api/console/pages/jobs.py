"""Jobs: the list with the filters of `GET /v1/jobs`, paged by cursor."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from services.api.console.forms import said_of_the_form
from services.api.console.rendering import is_part, page
from services.api.console.sessions import JobViewer
from services.api.http.auth import ClientsDep
from services.api.jobs.listing import listed
from services.api.jobs.schemas import JobQuery
from shared.contracts.conversation import last_user
from shared.contracts.generation import SelectBody, selection_of
from shared.contracts.jobs import JobKind, JobState, ListedJob
from shared.security.api_keys import Scope

router = APIRouter(prefix="/jobs")
SHOWN = 40
SHOWN_CHARS = 90


class Filters(BaseModel):
    """The filters as the form sends them: a field that is left empty filters nothing."""

    state: str = ""
    kind: str = ""
    label: str = ""
    rejected: str = ""
    min_probability: str = ""
    max_probability: str = ""
    feedback: str = ""
    key: str = ""
    user: str = ""
    since: str = ""
    until: str = ""
    before: str = ""

    def query(self, include: tuple[str, ...]) -> JobQuery:
        """Return the query of the list; times without a zone are in UTC. Raises `ValidationError`."""
        given = {name: value.strip() for name, value in self if value.strip()}
        times = {name: _in_utc(given[name]) for name in ("since", "until") if name in given}
        return JobQuery.model_validate({**given, **times, "limit": SHOWN, "include": include})

    @property
    def given(self) -> dict[str, str]:
        """The filters that filter, without the cursor."""
        return {name: value for name, value in self if value.strip() and name != "before"}


def _in_utc(time: str) -> str:
    has_zone = time.endswith(("Z", "z")) or "+" in time or time[10:].count("-")
    return time if has_zone else f"{time}Z"


@router.get("")
async def list_jobs(
    request: Request, clients: ClientsDep, visitor: JobViewer, filters: Annotated[Filters, Query()]
) -> HTMLResponse:
    """Show the list."""
    shows_texts = visitor.key.may(Scope.READ)
    with said_of_the_form():
        query = filters.query(("request", "feedback") if shows_texts else ("feedback",))
    found = await listed(clients, visitor.key, query)
    shown: dict[str, Any] = {
        "jobs": [(job, selection_of(job), said(job) if shows_texts else None) for job in found.jobs],
        "next": found.next.removeprefix("("),
        "filters": filters,
        "command": command(filters),
        "states": list(JobState),
        "kinds": list(JobKind),
        "shows_texts": shows_texts,
        "sees_all": not visitor.key.sees,
    }
    # A browser that goes back wants the page, although its script asks.
    wants_part = is_part(request) and "hx-history-restore-request" not in request.headers
    return page(request, "jobs_found.html" if wants_part else "jobs.html", **shown)


def said(job: ListedJob) -> str:
    """Return the beginning of what a job asks; of a training nothing."""
    if job.kind is JobKind.TRAIN or job.body is None:
        return ""
    messages = SelectBody.model_validate(job.body).messages
    text = " ".join(messages[last_user(messages)].text[: 4 * SHOWN_CHARS].split())
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"


def command(filters: Filters) -> str:
    """Return the command that lists the same."""
    words = []
    for name, value in filters.given.items():
        flag = name.replace("_", "-")
        if name in ("rejected", "feedback"):
            words.append(f"--{flag}" if value == "true" else f"--no-{flag}")
        else:
            words.append(f"--{flag} {value}")
    return " ".join(["signalbox jobs list", *words])
