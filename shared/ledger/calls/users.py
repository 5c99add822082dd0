"""Forgetting what is kept of a user whom jobs name (`lua/users.lua`)."""

from typing import NamedTuple

from shared.ledger.calls.base import Call, never


class ForgottenPart(NamedTuple):
    """How many ended jobs a call forgot and how many it cancelled; `next` is empty after the last slice."""

    forgotten: int
    cancelled: int
    next: str


def forget_user(
    tenant_id: str, user: str, line: str = "", *, before: str = "+inf", limit: int = 100, is_dry: bool = False
) -> Call[ForgottenPart]:
    """Forget or cancel a slice of the jobs that name a user, those of one `line` of keys where it is given.

    `user` is the hash; `is_dry` only counts. What a worker holds is forgotten five seconds after its end.
    """
    args = {"tenant_id": tenant_id, "user": user, "line": line, "before": before, "limit": limit, "is_dry": is_dry}
    return Call("forget_user", args, lambda r: ForgottenPart(r["forgotten"], r["cancelled"], r["next"]), never)
