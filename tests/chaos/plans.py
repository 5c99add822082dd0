"""Plans of rows that need the model itself: the tests' tiny one, in workers and trainers."""

from tests.chaos.sizes import Size
from tests.chaos.world import Plan


def with_models(size: Size) -> Plan:
    """Workers whose slots are fewer than the adapters of row 11, and as many trainers."""
    return Plan(
        workers=("bank,travel,base",) * size.models,
        has_model=True,
        trainers=size.models,
        lease_seconds=size.lease_seconds,
        settings=(("adapter_slots", 4),),
    )


def maybe_with_models(size: Size) -> Plan:
    """The tiny model in the long form, the echo engine in the short one."""
    return with_models(size) if size.models else Plan(lease_seconds=size.lease_seconds)
