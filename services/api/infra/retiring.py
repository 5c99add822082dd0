"""Which adapters are being retired, as this process last read it: a look costs no call."""

from datetime import UTC, datetime
from email.utils import format_datetime

from shared.contracts.manifests import Release
from shared.contracts.retirements import Retirement
from shared.errors import NotFound
from shared.registry.retirements import Retirements

WARNINGS = ["Deprecation", "Sunset"]
"""Names of the headers that warn (RFC 9745, RFC 8594)."""


class ModelRetired(NotFound):
    """The named adapter's date has come."""

    param = "model"


class Retiring:
    """The retirements of all tenants, read again at each poll of the release pointers."""

    def __init__(self, stored: Retirements) -> None:
        self._stored = stored
        self._known: dict[str, dict[str, Retirement]] = {}

    def read(self, tenant_id: str) -> None:
        """Read a tenant's retirements now; it blocks."""
        self._known[tenant_id] = {one.ref: one for one in self._stored.list_all(tenant_id)}

    def of(self, tenant_id: str, ref: str | None) -> Retirement | None:
        """Return a version's retirement."""
        return self._known.get(tenant_id, {}).get(ref or "")

    def shutdown_date(self, tenant_id: str, ref: str | None) -> str | None:
        """Return the date from which on a version may not be named, in ISO 8601."""
        known = self.of(tenant_id, ref)
        return known.at.isoformat() if known else None

    def check(self, tenant_id: str, release: Release, label: str) -> None:
        """Raise `ModelRetired` where a request names a label whose adapter's date has come."""
        entry = release.labels.get(label)
        known = self.of(tenant_id, entry.ref) if entry else None
        if known and known.is_over:
            raise ModelRetired(
                "model_retired",
                f"the adapter {known.ref} was retired at {known.at.isoformat()}: name another model of GET /v1/models",
            )

    def warnings(self, tenant_id: str, ref: str | None) -> dict[str, str]:
        """Return the headers of what this version answers; none unless it is being retired."""
        known = self.of(tenant_id, ref)
        if known is None:
            return {}
        noted = int(datetime.fromisoformat(known.created_at).timestamp())
        return {"Deprecation": f"@{noted}", "Sunset": format_datetime(known.at.astimezone(UTC), usegmt=True)}
