"""What a job's language model will take, said before its training starts."""

from services.trainer.context import AnyContext
from shared.adapter_files import BaseShapes
from shared.contracts.training_cost import FACTOR, Estimate, Work, check_cost, estimate
from shared.errors import Unavailable


def announce(context: AnyContext, work: Work) -> None:
    """Publish the estimate; raises `Invalid` `training_costly` where it is far above the limit and not confirmed.

    The API refused what is above the limit, if it knew a speed; its estimate may differ from this one.
    """
    found = estimated(context, work)
    if found:
        context.report("estimated", estimate=found.model_dump())
    body = context.body
    check_cost(found, FACTOR * context.clients.confirm_training_seconds, body.kind, confirmed=body.confirm_cost)


def estimated(context: AnyContext, work: Work) -> Estimate | None:
    """Return what the work will take on this trainer; None where nothing was measured yet."""
    clients = context.clients
    try:
        speeds = clients.registry.speeds.of(clients.base_model)
    except Unavailable:  # an estimate is no reason to end a job
        return None
    return estimate(BaseShapes.from_folder(clients.base_folder).modules, context.body.settings, work, speeds)
