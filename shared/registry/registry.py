"""Everything stored besides jobs: contents in the object store, an index and the release pointers in Redis."""

from pathlib import Path

from shared.ledger import Ledger
from shared.registry.adapters import Adapters
from shared.registry.aliases import Aliases
from shared.registry.base_models import BaseModels
from shared.registry.corpora import Corpora
from shared.registry.datasets import Datasets
from shared.registry.files import Files
from shared.registry.records import (
    ADAPTERS,
    ALIASES,
    CORPORA,
    DATASETS,
    FILES,
    RELEASES,
    RETIREMENTS,
    TEMPLATES,
    Records,
)
from shared.registry.releases import Releases
from shared.registry.removal import Removal
from shared.registry.retirements import Retirements
from shared.registry.speeds import Speeds
from shared.registry.store import ObjectStore
from shared.registry.templates import Templates
from shared.registry.traffic import Traffic
from shared.registry.weights import Weights


class Registry:
    """Weights, adapters, data sets, corpora, releases, templates, aliases, files, base models, traffic."""

    def __init__(self, ledger: Ledger, store: ObjectStore, cache_dir: Path) -> None:
        self.ledger = ledger
        self._cache_dir = cache_dir
        self.store = store
        redis = ledger.redis
        self.weights = Weights(store, cache_dir)
        self.adapters = Adapters(redis, Records(redis, store, ADAPTERS), self.weights)
        self.datasets = Datasets(redis, Records(redis, store, DATASETS), store)
        self.corpora = Corpora(Records(redis, store, CORPORA), store)
        self.releases = Releases(ledger, Records(redis, store, RELEASES), store, self.weights, self.adapters)
        self.base_models = BaseModels(store)
        self.templates = Templates(Records(redis, store, TEMPLATES))
        self.aliases = Aliases(Records(redis, store, ALIASES))
        self.files = Files(Records(redis, store, FILES), store)
        self.retirements = Retirements(Records(redis, store, RETIREMENTS))
        self.speeds = Speeds(store)
        self.traffic = Traffic(redis, store)
        self.removal = Removal(ledger, self.adapters, self.datasets, self.releases, self.templates, self.corpora)

    def stored_bytes(self, tenant_id: str) -> dict[str, int]:
        """Return the bytes of each of a tenant's adapters, data sets and files of corpora, by digest and by id."""
        weights = {one.digest: int(one.info.get("size_bytes", 0)) for one in self.adapters.list_all(tenant_id)}
        rows = {one.id: one.size_bytes for one in self.datasets.list_all(tenant_id)}
        raw = {file.sha256: file.size_bytes for one in self.corpora.list_all(tenant_id) for file in one.files}
        return weights | rows | raw

    def with_store(self, store: ObjectStore) -> "Registry":
        """Return the same registry with another client of the same store (for example, one that retries)."""
        return Registry(self.ledger, store, self._cache_dir)
