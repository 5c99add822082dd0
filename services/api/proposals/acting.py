"""What a proposal does: what it costs, its data set, its jobs, its edit, its rollout."""

from typing import Any

from services.api.infra.clients import Clients
from services.api.releases.edit import edited_release
from services.api.releases.schemas import ReleaseEdit
from services.api.rollouts import service as rollouts
from services.api.rollouts.schemas import RolloutRequest
from services.api.training import service as training
from services.api.training.service import AnyTraining
from shared.contracts.dataset_manifest import DatasetManifest
from shared.contracts.manifests import Release
from shared.contracts.proposals import Act, Canary, Cost, Proposal, ProposalKind
from shared.contracts.rollouts import Rollout
from shared.contracts.rows import Row, RowSource
from shared.errors import Conflict
from shared.ledger import calls
from shared.security.api_keys import Key
from shared.settings import Settings

_EDIT_SAYS = "Nothing is trained; the candidate is judged anew at once."
_ADD_SAYS = "Known once it has a data set: confirming makes one of the log; the answers are yours to write."
_WORDS_SAY = "Seconds: words alone are trained."
LAX_ACCURACY, LAX_LOSS = 0.5, 0.1
"""A gate that asks less of new labels, or lets kept labels lose more, judges nothing."""


def training_of(body: dict[str, Any]) -> AnyTraining:
    """Return the request that a proposal keeps."""
    return training.REQUEST.validate_python(body)


async def quoted_cost(clients: Clients, caller: Key, kind: ProposalKind, act: Act) -> Cost:
    """Return what an act takes; raises what its training, or its edit, would raise."""
    if act.edit is not None:
        return Cost(says=_EDIT_SAYS)
    if kind == "add" and not act.trainings:
        return Cost(says=_ADD_SAYS)
    quotes = [(await training.quoted(clients, caller, training_of(body)))[1] for body in act.trainings]
    known = [quote.estimate.seconds for quote in quotes if quote.estimate]
    if all(quote.language_model == "none" for quote in quotes):
        return Cost(says=_WORDS_SAY)
    only = "" if all(quote.language_model == "trained" for quote in quotes) else ", where words are not enough"
    how_long = f"about {sum(known):.0f} seconds" if known else "for a time that nothing is known to estimate by"
    return Cost(
        seconds=sum(known) if known else None,
        needs_confirmation=any(quote.needs_confirmation for quote in quotes),
        says=f"The language model is trained {how_long}{only}.",
    )


def make_dataset(clients: Clients, proposal: Proposal, label: str, by: str) -> DatasetManifest:
    """Store the texts of a proposed label as a data set, each with where it comes from; blocking.

    Raises `Conflict` `proposal_rows_gone` where too few are still in the log, and `Unavailable`.
    """
    kept = clients.registry.traffic.texts(proposal.tenant_id, proposal.entries)
    rows = {row.text: row for entry in reversed(proposal.entries) if (row := kept.get(entry)) and row.text.strip()}
    least = proposal.task.least_rows if proposal.task else 1
    if len(rows) < least:
        raise Conflict(
            "proposal_rows_gone",
            f"{len(rows)} of the {len(proposal.entries)} requests are still in the log, {least} are needed: wait for "
            "the next review, or keep the log longer",
        )
    pairs = [
        (
            RowSource(
                job=row.job, said_by=(by,), at=row.at, line=row.line, user=row.user, conversation=row.conversation
            ),
            Row(input=text, label=label),
        )
        for text, row in reversed(rows.items())
    ]
    name = f"traffic-{label}"[:64].rstrip(".-_")
    return clients.registry.datasets.add_sourced(proposal.tenant_id, name, pairs)


async def queue(clients: Clients, caller: Key, proposal: Proposal) -> tuple[str, ...]:
    """Queue a proposal's trainings, each once however often this is called; raises as their submission does."""
    accepted = []
    for number, body in enumerate(proposal.act.trainings):
        job, _ = await training.submit(clients, caller, training_of(body), proposal.job_key(number))
        accepted.append(job.id)
    return tuple(accepted)


def edited(clients: Clients, caller: Key, proposal: Proposal) -> Release:
    """Make a proposal's candidate by its edit, once however often this is called; blocking; raises as the edit does."""
    made = made_by(clients, proposal.tenant_id, proposal.maker)
    return made or edited_release(clients, caller, ReleaseEdit.model_validate(proposal.act.edit), proposal.maker)


def made_by(clients: Clients, tenant_id: str, maker: str) -> Release | None:
    """Return the release that names this maker; blocking."""
    releases = clients.registry.releases.list_all(tenant_id)
    return next((release for release in releases if release.made_by == maker), None)


async def rollout_of(clients: Clients, tenant_id: str, candidate: str) -> Rollout | None:
    """Return the newest rollout of a candidate."""
    open_one, ended = await clients.ledger.do(calls.rollouts(tenant_id))
    return next((one for one in [*([open_one] if open_one else []), *ended[::-1]] if one.release == candidate), None)


async def roll_out(clients: Clients, caller: Key, candidate: str, canary: Canary) -> str:
    """Begin a canary; returns its id. Raises what `rollouts.begin` does."""
    return (await rollouts.begin(clients, caller, candidate, RolloutRequest(**canary.model_dump()))).id


def gate_fault(settings: Settings, release: Release | None) -> str:
    """Return why no gate stands before a candidate of a release, and what to do; empty where one does."""
    if release is None or release.selector is None:
        return "there is no release with a selector that a candidate could be compared with: train one first"
    if not release.validation:
        return "the current release has no validation rows that a candidate could be judged by: train its selector anew"
    if settings.gate_min_accuracy < LAX_ACCURACY or settings.gate_max_loss > LAX_LOSS:
        return (
            "the operator's gate lets every candidate pass: set SIGNALBOX_GATE_MIN_ACCURACY to "
            f"{LAX_ACCURACY:g} or more and SIGNALBOX_GATE_MAX_LOSS to {LAX_LOSS:g} or less"
        )
    return ""
