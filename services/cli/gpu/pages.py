"""Prints a plan: a table for people, everything as JSON for machines."""

from typing import Any

from services.cli import output
from services.cli.gpu.memory import GIB
from services.cli.gpu.plan import Plan, Server

_COLUMNS = ["server", "groups", "cards", "adapters", "slots", "rank", "cache", "requests"]


def plan_page(plan: Plan, release: str, *, as_json: bool) -> None:
    """Print where everything runs, what does not fit and what to change."""
    if as_json:
        output.json_line(as_record(plan, release))
        return
    output.out.print(_head(plan, release), highlight=False, markup=False)
    if plan.servers:
        output.table([_row(server) for server in plan.servers], _COLUMNS, as_json=False)
        for name, card in plan.helpers.items():
            output.out.print(f"{name}: {'processors' if card is None else f'card {card}'}", highlight=False)
    for note in plan.notes:
        output.out.print(f"note: {note}", highlight=False, markup=False)
    for problem in plan.problems:
        output.out.print(f"does not fit: {problem}", highlight=False, markup=False)


def as_record(plan: Plan, release: str) -> dict[str, Any]:
    """The plan as JSON values; sizes in bytes."""
    return {
        "release": release or None,
        "base_model": {"name": plan.base.name, "weight_bytes": plan.base.weights},
        "cards": plan.cards.count,
        "card_bytes": plan.cards.memory,
        "max_tokens": plan.cards.longest,
        "servers": [_server(server) for server in plan.servers],
        **{name: {"card": card} for name, card in plan.helpers.items()},
        "fits": not plan.problems,
        "problems": list(plan.problems),
        "notes": list(plan.notes),
    }


def _head(plan: Plan, release: str) -> str:
    cards = f"{plan.cards.count} x {plan.cards.memory / GIB:g} GiB"
    served = f"{plan.base.name} ({plan.base.weights / GIB:.1f} GiB)"
    return f"{release or 'no release yet'} of {served} on {cards}\ncomputed from shapes and ranks, measured on no card"


def _row(server: Server) -> dict[str, Any]:
    return {
        "server": server.name,
        "groups": ",".join(server.groups),
        "cards": str(server.cards[0]) if len(server.cards) == 1 else f"{server.cards[0]}-{server.cards[-1]}",
        "adapters": server.adapters,
        "slots": server.fit.slots,
        "rank": server.fit.rank,
        "cache": f"{server.fit.cache_bytes / GIB:.1f}G",
        "requests": server.requests,
    }


def _server(server: Server) -> dict[str, Any]:
    fit = server.fit
    return {
        "name": server.name,
        "groups": list(server.groups),
        "cards": list(server.cards),
        "adapters": server.adapters,
        "max_loras": fit.slots,
        "max_lora_rank": fit.rank,
        "max_cpu_loras": server.kept,
        "slot_bytes": fit.slot_bytes,
        "cache_bytes": fit.cache_bytes,
        "cache_tokens": fit.cache_tokens,
        "requests": server.requests,
        "gpu_memory_utilization": server.utilization,
    }
