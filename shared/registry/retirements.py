"""Dates from which on adapters may not be named; a version has one at most."""

from collections.abc import Sequence

from shared.contracts.labels import full_form
from shared.contracts.retirements import Retirement
from shared.registry.records import Records


class Retirements:
    """The retirements of every tenant; another date replaces the one before."""

    def __init__(self, records: Records[Retirement]) -> None:
        self._records = records

    def list_all(self, tenant_id: str) -> list[Retirement]:
        """List the retirements of a tenant."""
        return self._records.list_all(tenant_id)

    def of(self, tenant_id: str, refs: Sequence[str]) -> dict[str, Retirement]:
        """Return the retirements of these versions, as far as they have any."""
        return {one.ref: one for one in self._records.of(tenant_id, [full_form(ref) for ref in refs])}

    def set(self, retirement: Retirement) -> None:
        """Add a retirement, or move its date."""
        self._records.add(retirement.tenant_id, full_form(retirement.ref), retirement)

    def take_back(self, tenant_id: str, ref: str) -> None:
        """Remove a version's retirement, if it has one."""
        known = self._records.get(tenant_id, full_form(ref))
        if known is not None:
            self._records.remove(tenant_id, full_form(ref), known)
