"""Forgetting what is kept of whom jobs name (`lua/users.lua`)."""

from typing import NamedTuple

from shared.ledger.calls.base import Call, Reply, never


class ForgottenPart(NamedTuple):
    """How many ended jobs a call forgot and how many it cancelled; `next` is empty after the last slice."""

    forgotten: int
    cancelled: int
    next: str


def forget_found(
    tenant_id: str, fact: str, line: str = "", *, before: str = "+inf", limit: int = 100, is_dry: bool = False
) -> Call[ForgottenPart]:
    """Forget or cancel a slice of the jobs with a fact (`facts_of`), those of one `line` of keys where it is given.

    `is_dry` only counts. What a worker holds is forgotten five seconds after its end.
    """
    args = {"tenant_id": tenant_id, "fact": fact, "line": line, "before": before, "limit": limit, "is_dry": is_dry}
    return Call("forget_found", args, _part, never)


def forget_one(tenant_id: str, job_id: str, line: str = "", *, is_dry: bool = False) -> Call[ForgottenPart]:
    """Forget or cancel one job, as `forget_found` does."""
    return Call("forget_one", {"tenant_id": tenant_id, "id": job_id, "line": line, "is_dry": is_dry}, _part, never)


def _part(reply: Reply) -> ForgottenPart:
    return ForgottenPart(reply["forgotten"], reply["cancelled"], reply["next"])
