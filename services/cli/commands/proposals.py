"""Commands about what traffic proposes to do."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import output
from services.cli.commands.common import Json, client
from shared.errors import Invalid

if TYPE_CHECKING:
    from signalbox import Proposal

app = typer.Typer(no_args_is_help=True, help="Proposals: what traffic teaches, as things to do.")
Id = Annotated[str, typer.Argument(metavar="ID")]


@app.command("list")
def proposals_list(
    state: Annotated[str | None, typer.Option(help="open, training, candidate, done, dismissed, …")] = None,
    json: Json = False,
) -> None:
    """List what traffic proposes, newest first."""
    rows = [_row(one) for one in client().proposals(state=state)]
    columns = ["id", "kind", "labels", "state", "requests", "why"]
    output.table(rows, columns, as_json=json, one="signalbox proposals show ID")


@app.command("show")
def proposals_show(proposal_id: Id, json: Json = False) -> None:
    """Show one: why, with examples, and what it would do."""
    _page(client().proposal(proposal_id), as_json=json)


@app.command("confirm")
def proposals_confirm(
    proposal_id: Id,
    label: Annotated[str | None, typer.Option(help="Of a new label: its name, domain.task.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Of a new label: rows with answers, on which its adapter is trained.")
    ] = None,
    retention: Annotated[str | None, typer.Option(help="Share of old rows to train on again: 0 to 1, auto.")] = None,
    confirm_cost: Annotated[bool, typer.Option(help="Train also above the operator's limit.")] = False,
    json: Json = False,
) -> None:
    """Carry one out: queue its training, or make its candidate."""
    made = client().confirm_proposal(
        proposal_id, label=label, dataset=dataset, retention=_share(retention), confirm_cost=confirm_cost
    )
    _page(made, as_json=json)


@app.command("dismiss")
def proposals_dismiss(
    proposal_id: Id, reason: Annotated[str, typer.Option(help="Why; it stands in the audit log.")] = ""
) -> None:
    """Let one stay away while its release is current."""
    client().dismiss_proposal(proposal_id, reason=reason)
    output.out.print(f"dismissed {proposal_id}", highlight=False)


@app.command("policy")
def proposals_policy(
    mode: Annotated[
        str | None, typer.Argument(help="observe, propose, train (to the candidate), auto (through gate and canary).")
    ] = None,
    review_every_rows: Annotated[
        int | None, typer.Option(help="New rows of the log after which it is reviewed.", min=100, max=10_000)
    ] = None,
    ask: Annotated[
        list[str] | None, typer.Option(help="A kind that waits for a person, too; repeat it, `none` for none.")
    ] = None,
    json: Json = False,
) -> None:
    """Show what traffic may do by itself, or change it."""
    api = client()
    known = api.proposal_policy()
    changes: dict[str, Any] = {"mode": mode, "review_every_rows": review_every_rows}
    if ask is not None:
        changes["ask"] = [kind for kind in ask if kind != "none"]
    changed = {name: value for name, value in changes.items() if value is not None}
    if changed:
        kept = {name: known[name] for name in ("mode", "review_every_rows", "ask", "canary")}
        known = api.set_proposal_policy(**kept | changed)
    output.record(known, as_json=json)


def audit(
    before: Annotated[str | None, typer.Option(help="The page before named this as the next one.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 100,
    json: Json = False,
) -> None:
    """List what traffic led to, and who decided each step."""
    page = client().audit(before=before, limit=limit)
    columns = ["at", "by", "what", "proposal", "detail"]
    output.table([entry.to_dict() for entry in page.items], columns, as_json=json)
    if page.next:
        output.err.print(f"more: --before {page.next}")


def _share(text: str | None) -> float | str | None:
    try:
        return text if text in (None, "auto") else float(text)
    except ValueError as error:
        raise Invalid("retention_invalid", f"write --retention as 0 to 1, or auto; {text!r} is neither") from error


def _row(proposal: "Proposal") -> dict[str, Any]:
    why = proposal.note or (proposal.why[0] if proposal.why else "")
    return {**proposal.to_dict(), "labels": ", ".join(proposal.labels), "why": why}


def _page(proposal: "Proposal", *, as_json: bool) -> None:
    shown = proposal.to_dict()
    if as_json:
        output.json_line(shown)
        return
    facts = ("id", "kind", "labels", "state", "note", "release", "cost", "act", "jobs", "candidate", "rollout")
    output.record({name: shown[name] for name in facts}, as_json=False)
    for sentence in proposal.why:
        output.out.print(f"- {sentence}", highlight=False, markup=False)
    if proposal.examples:
        output.out.print()
        output.table(proposal.examples, ["entry", "text"], as_json=False)
