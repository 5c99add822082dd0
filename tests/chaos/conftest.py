"""Systems for the short form: rows that run on the same plan share one."""

import logging
from dataclasses import replace

import pytest

from tests.chaos.promises import PROMISES
from tests.chaos.sizes import SHORT, Size
from tests.chaos.world import World, until

READY_SECONDS = 60
WITHOUT_HEARTBEATS = ("api", "api-worker")


class Worlds:
    """One running system at a time."""

    def __init__(self, factory):
        self._factory = factory
        self._world = None

    def get(self, plan):
        """A system of this plan, all of it serving, under the release it began with."""
        plan = replace(plan, has_poison=True)  # of no effect on jobs without the word
        if self._world is None or self._world.plan != plan:
            self.close()
            self._world = World(plan, self._factory.mktemp("world")).__enter__()
        world = self._world
        assert until(
            lambda: (
                len(world.present(world.supervisor.children))
                == len(world.supervisor.children) - len(WITHOUT_HEARTBEATS)
            ),
            READY_SECONDS,
        )
        assert until(world.is_serving_http, READY_SECONDS)
        return world

    def close(self):
        if self._world is not None:
            self._world.__exit__()
            self._world = None


@pytest.fixture(scope="package")
def worlds(tmp_path_factory):
    made = Worlds(tmp_path_factory)
    yield made
    made.close()


@pytest.fixture
def broken(worlds, tmp_path):
    """Run a short row; answers the figures that miss their goals. With `sabotage` it has a system of its own."""

    def run(number, *sabotage, **counts):
        promise, size = PROMISES[number], Size(**SHORT[number] | counts)
        if sabotage:
            worlds.close()  # one system at a time
            with World(promise.plan(size), tmp_path, sabotage) as world:
                outcome = promise.prove(world, size)
        else:
            outcome = promise.prove(worlds.get(promise.plan(size)), size)
        logging.getLogger(__name__).warning("%s", vars(outcome))  # what pytest shows beside a failure
        return outcome.broken

    return run
