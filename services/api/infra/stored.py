"""How much a tenant may keep in the object store."""

from services.api.http.problems import TooLarge
from services.api.infra.clients import Clients


def check_room(clients: Clients, tenant_id: str, name: str, size_bytes: int) -> None:
    """Raise `TooLarge` where the content of this digest or id brings a tenant above the operator's limit; blocking.

    Uploads that run at the same time do not see each other.
    """
    most_mib = clients.settings.max_stored_mib
    if not most_mib:
        return
    stored = clients.registry.stored_bytes(tenant_id)
    if sum((stored | {name: size_bytes}).values()) > most_mib << 20 and name not in stored:
        raise TooLarge(
            "storage_full",
            f"adapters, data sets and corpora take {_mib(sum(stored.values()))} of {most_mib} MiB, this has "
            f"{_mib(size_bytes)}: delete some (`signalbox adapters rm`, `datasets rm`, `corpora rm`), or let an "
            "operator raise SIGNALBOX_MAX_STORED_MIB",
        )


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.1f} MiB"
