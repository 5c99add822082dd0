"""A release of stand-ins, and API keys of every kind."""

import pytest

from shared.security import api_keys
from tests.support.api import ADAPTERS, SELECTOR, make_release


@pytest.fixture
def weights(store):
    """Stand-ins for the weights that releases name: nobody loads them here, but the registry checks that they exist."""
    store.ensure_bucket()
    for digest in (*ADAPTERS.values(), SELECTOR):
        store.put(f"adapters/{digest}/adapter_model.safetensors", b"x")


@pytest.fixture
def release(registry, weights):
    """The current release of the default tenant."""
    release = make_release()
    registry.releases.add(release)
    registry.releases.promote("default", release.id, force=True)
    return release


@pytest.fixture
def tokens(ledger):
    """An API key of each kind."""
    make = {
        "submit": ({api_keys.Scope.SUBMIT, api_keys.Scope.READ, api_keys.Scope.REVIEW}, "default"),
        "train": ({api_keys.Scope.TRAIN}, "default"),
        "review": ({api_keys.Scope.REVIEW}, "default"),
        "admin": ({api_keys.Scope.ADMIN}, "default"),
        "other": ({api_keys.Scope.ADMIN}, "other"),
    }
    return {
        name: api_keys.create(ledger.redis, frozenset(scopes), tenant_id=tenant)[1]
        for name, (scopes, tenant) in make.items()
    }
