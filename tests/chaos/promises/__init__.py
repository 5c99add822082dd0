"""All promises by number."""

from tests.chaos.outcome import Promise
from tests.chaos.promises import (
    accepted_is_never_lost,
    duplicates_make_one_job,
    hostile_adapters_are_refused,
    killed_runs_again_soon,
    no_input_crashes,
    nobody_waits_for_a_backlog,
    overload_is_refused,
    poison_stops_no_group,
    redis_restarts_lose_nothing,
    releases_change_in_one_step,
    scopes_by_every_road,
    slow_connections_starve_nobody,
    stale_writes_are_refused,
    stopping_loses_nothing,
    store_faults_tear_nothing,
    tenants_are_apart,
    the_right_adapter_answered,
    training_never_starts_over,
    webhooks_stay_outside,
)

_MODULES = (
    accepted_is_never_lost,
    stale_writes_are_refused,
    killed_runs_again_soon,
    redis_restarts_lose_nothing,
    poison_stops_no_group,
    training_never_starts_over,
    stopping_loses_nothing,
    duplicates_make_one_job,
    hostile_adapters_are_refused,
    releases_change_in_one_step,
    the_right_adapter_answered,
    store_faults_tear_nothing,
    tenants_are_apart,
    no_input_crashes,
    webhooks_stay_outside,
    overload_is_refused,
    nobody_waits_for_a_backlog,
    slow_connections_starve_nobody,
    scopes_by_every_road,
)
PROMISES: dict[int, Promise] = {module.PROMISE.number: module.PROMISE for module in _MODULES}
