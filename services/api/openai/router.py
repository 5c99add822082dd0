"""`/v1/chat/completions` and `/v1/completions`, in OpenAI's format."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response

from services.api.http.auth import Author, ClientsDep
from services.api.http.idempotency import IdempotencyKey
from services.api.http.keyed_route import KeyedRoute
from services.api.openai import service
from services.api.openai.answers import ChatForm, TextForm
from services.api.openai.schemas import ChatRequest, CompletionRequest
from services.api.openai.service import Wish

router = APIRouter(prefix="/v1", tags=["openai"], route_class=KeyedRoute)
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer, or with `stream` its chunks", "content": {"text/event-stream": {}}},
    202: {"description": "With `Prefer: respond-async`: the job"},
}


async def wish(
    caller: Author,
    key: IdempotencyKey = None,
    prefer: Annotated[
        str, Header(max_length=256, description="`respond-async` answers with the job, without waiting for its end")
    ] = "",
) -> Wish:
    """Return who asks, and how the answer is to come."""
    preferences = {one.strip().lower() for one in prefer.split(",")}
    return Wish(caller, key, "respond-async" in preferences)


WishDep = Annotated[Wish, Depends(wish)]


@router.post("/chat/completions", responses=_ANSWERS)
async def chat(body: ChatRequest, request: Request, clients: ClientsDep, wish: WishDep) -> Response:
    """Answer a conversation by the adapter that fits, or by the model that the request names."""
    return await service.answer(ChatForm(), body, request, clients, wish)


@router.post("/completions", responses=_ANSWERS)
async def complete(body: CompletionRequest, request: Request, clients: ClientsDep, wish: WishDep) -> Response:
    """Answer a text; the adapter's template frames it as a user's turn."""
    return await service.answer(TextForm(), body, request, clients, wish)
