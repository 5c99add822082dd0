"""Other names for models, which a tenant's operators give."""

from urllib.parse import quote

from shared.contracts.aliases import ModelAlias
from shared.errors import NotFound
from shared.registry.records import Records


class Aliases:
    """The aliases of every tenant; one is pointed to another model by adding it again."""

    def __init__(self, records: Records[ModelAlias]) -> None:
        self._records = records

    def get(self, tenant_id: str, name: str) -> ModelAlias | None:
        """Return an alias by its name, or None."""
        return self._records.get(tenant_id, _key(name))

    def list_all(self, tenant_id: str) -> list[ModelAlias]:
        """List the aliases of a tenant by name."""
        return sorted(self._records.list_all(tenant_id), key=lambda alias: alias.name)

    def set(self, alias: ModelAlias) -> None:
        """Add an alias, or point it to another model."""
        self._records.add(alias.tenant_id, _key(alias.name), alias)

    def remove(self, tenant_id: str, name: str) -> None:
        """Remove an alias; raises `NotFound`."""
        alias = self.get(tenant_id, name)
        if alias is None:
            raise NotFound("alias_not_found", f"there is no alias {name!r}; `signalbox models list` shows them")
        self._records.remove(tenant_id, _key(name), alias)


def _key(name: str) -> str:
    """The record's name, which is part of an object's key: people's names have slashes."""
    return quote(name, safe="")
