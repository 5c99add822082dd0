"""Adapters, data sets and releases: immutable manifests, and one pointer that moves by compare-and-set."""

from shared.registry.registry import Registry
from shared.registry.restore import Restored, restore
from shared.registry.watch import ReleaseWatch

__all__ = ["Registry", "ReleaseWatch", "Restored", "restore"]
