"""Uploads of data sets: a thread checks all rows, then stores them."""

import asyncio

from services.api.infra.clients import Clients
from shared.contracts.manifests import DatasetManifest
from shared.contracts.rows import check_dataset_name, parse_rows


async def add_dataset(clients: Clients, tenant_id: str, name: str, data: bytes) -> DatasetManifest:
    """Check JSON lines and store them; raises `Invalid` that names the wrong lines, `Unavailable`."""
    check_dataset_name(name)
    async with clients.uploads:
        return await asyncio.to_thread(_add_dataset, clients, tenant_id, name, data)


def _add_dataset(clients: Clients, tenant_id: str, name: str, data: bytes) -> DatasetManifest:
    return clients.registry.datasets.add(tenant_id, name, parse_rows(data))
