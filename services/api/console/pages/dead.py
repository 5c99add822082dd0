"""Dead letters: jobs that were given up, why, and how they run again."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from services.api.console.rendering import page
from services.api.console.sessions import Admin
from services.api.http.auth import ClientsDep
from services.api.infra.clients import Clients
from services.api.jobs import service as jobs
from services.api.jobs.schemas import Cursor, PathId
from shared.ledger import calls
from shared.ledger.calls import Page
from shared.security.api_keys import Key

router = APIRouter(prefix="/dead")
SHOWN = 25


@router.get("")
async def dead(request: Request, clients: ClientsDep, visitor: Admin, before: Cursor = "") -> HTMLResponse:
    """Show the page."""
    return page(request, "dead.html", found=await _page(clients, visitor.key, before), before=before, said="")


@router.post("/replay")
async def replay_all(request: Request, clients: ClientsDep, visitor: Admin) -> HTMLResponse:
    """Run all of them again."""
    count = await jobs.replay_all(clients, visitor.key)
    return await _list(request, clients, visitor.key, f"{count} dead letters run again")


@router.post("/{job_id}/replay")
async def replay(request: Request, job_id: PathId, clients: ClientsDep, visitor: Admin) -> HTMLResponse:
    """Run one again."""
    await jobs.replay(clients, visitor.key, job_id)
    return await _list(request, clients, visitor.key, f"{job_id} runs again")


@router.post("/{job_id}/drop")
async def drop(request: Request, job_id: PathId, clients: ClientsDep, visitor: Admin) -> HTMLResponse:
    """Drop one: it is kept no longer than any other ended job."""
    await jobs.drop(clients, visitor.key, job_id)
    return await _list(request, clients, visitor.key, f"{job_id} is dropped: it goes with the other ended jobs")


async def _list(request: Request, clients: Clients, key: Key, said: str) -> HTMLResponse:
    return page(request, "dead_list.html", found=await _page(clients, key, ""), before="", said=said)


async def _page(clients: Clients, key: Key, before: str) -> Page:
    cursor = f"({before}" if before else ""
    return await clients.ledger.do(calls.list_jobs(key.tenant_id, limit=SHOWN, before=cursor, dead=True))
