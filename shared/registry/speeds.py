"""How fast trainings ran here, by base model: what a training will take is estimated from it."""

from pydantic import TypeAdapter

from shared.contracts.training_cost import Speed
from shared.errors import NotFound
from shared.registry.store import ObjectStore

KEPT = 32
_LIST = TypeAdapter(list[Speed])


class Speeds:
    """The speeds of the last trainings; where two trainers write at once, one of two measurements is lost."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def add(self, base_model: str, speed: Speed) -> None:
        """Store one more measurement, in place of the oldest where there are many; raises `Unavailable`."""
        kept = [*self.of(base_model), speed][-KEPT:]
        self._store.put(_key(base_model), _LIST.dump_json(kept))

    def of(self, base_model: str) -> list[Speed]:
        """Return the measurements of a base model, oldest first; raises `Unavailable`."""
        try:
            return _LIST.validate_json(self._store.get(_key(base_model)))
        except NotFound:
            return []


def _key(base_model: str) -> str:
    return f"speeds/{base_model}.json"
