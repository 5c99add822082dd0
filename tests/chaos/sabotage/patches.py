"""The changes by name, each made in the processes that it concerns."""

import json
import os
import signal
import sys

from tests.chaos.sabotage import NAMES, POISON


def apply():
    """Make what the environment asks for."""
    for name in filter(None, os.environ.get(NAMES, "").split(",")):
        PATCHES[name]()


def runs(service):
    """Whether this process is that service."""
    return f"services.{service}" in sys.orig_argv


def poison():
    """A job with the word in it ends its worker as a fault in native code would: at once."""
    if not runs("adapter_worker"):
        return
    from services.adapter_worker import handlers

    real = handlers.generation_request

    def deadly(job, *given):
        if POISON in json.dumps(job.body):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(job, *given)

    handlers.generation_request = deadly


def no_fencing():
    """An attempt that lost its job may write as before."""
    from shared.ledger import script

    script.LUA = replaced(script.LUA, "and tonumber(job.attempt) == attempt", "")


def no_reconciler():
    """Nothing that was lost is found."""
    from shared.queue.reconciler import Reconciler

    Reconciler.round = lambda self: 0


def no_upload_digest():
    """An upload is not compared with the SHA-256 that its sender named."""
    if not runs("api"):
        return
    from services.api.adapters import service as uploads

    uploads._check_digest = lambda expected, archive_digest, digest: None


def no_promote_scope():
    """A training job promotes for whoever submits it."""
    if not runs("api"):
        return
    from services.api.training import service

    service.check_promotion = lambda settings, caller, request: None


def no_fetch_digest():
    """What the store hands out is believed."""
    if not runs("adapter_worker"):
        return
    from shared.registry import weights

    class Anything:
        def __ne__(self, other):
            return False

        __hash__ = None

    weights.adapter_digest = lambda folder: Anything()


def no_last_try_alone():
    """A job that killed its workers before goes on running beside others."""
    from shared.worker.exclusive import ExclusiveGate

    ExclusiveGate.alone = ExclusiveGate.beside_others


def no_lanes():
    """Whoever came first is next, whatever its priority, tenant and label."""
    from shared.ledger import script

    entering = "local function enter_lane(job, came_ms)\n  with_priority(job)\n"
    all_alike = "  job.priority, job.tenant_id, job.label = 'interactive', 'all', ''\n"
    script.LUA = replaced(script.LUA, entering, entering + all_alike)


def no_tenants():
    """Any tenant may read any job whose id it knows."""
    from shared.ledger import script

    guard = "if not job.state or (a.tenant_id ~= '' and job.tenant_id ~= a.tenant_id) then"
    script.LUA = replaced(script.LUA, guard, "if not job.state then")


def no_base_check():
    """A worker answers whatever it gets, on the base model that it has."""
    if not runs("adapter_worker"):
        return
    from services.adapter_worker import handlers

    handlers.leave_to_its_base = lambda attempt, needed, served: None


def no_budget():
    """A tenant may take what there is."""
    from shared.ledger import calls, room

    room.Room.budget = calls.NO_BUDGET


def replaced(text, old, new):
    """The text changed; a safeguard that is not found any more must not look like one that was taken away."""
    if text.count(old) != 1:
        raise AssertionError(f"{old!r} is there {text.count(old)} times: change the patch along with the code")
    return text.replace(old, new)


PATCHES = {
    "poison": poison,
    "no_fencing": no_fencing,
    "no_reconciler": no_reconciler,
    "no_upload_digest": no_upload_digest,
    "no_promote_scope": no_promote_scope,
    "no_fetch_digest": no_fetch_digest,
    "no_last_try_alone": no_last_try_alone,
    "no_lanes": no_lanes,
    "no_tenants": no_tenants,
    "no_base_check": no_base_check,
    "no_budget": no_budget,
}
