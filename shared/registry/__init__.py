"""The registry of weights, adapters, data sets, releases and base models: immutable manifests and atomic pointers."""

from shared.registry.registry import Registry
from shared.registry.restore import Restored, restore
from shared.registry.watch import CurrentRelease, ReleaseWatch

__all__ = ["CurrentRelease", "Registry", "ReleaseWatch", "Restored", "restore"]
