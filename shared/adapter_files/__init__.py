"""Checks an adapter's files before they are trusted; uses no model library."""

from shared.adapter_files.archive import unpack_adapter
from shared.adapter_files.check import AdapterInfo, AdapterLimits, check_adapter
from shared.adapter_files.folder import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    adapter_digest,
    check_digest,
    check_loadable,
)
from shared.adapter_files.planned import check_planned, check_trainable
from shared.adapter_files.shapes import BaseShapes

__all__ = [
    "CONFIG_NAME",
    "WEIGHTS_NAME",
    "AdapterInfo",
    "AdapterLimits",
    "BaseShapes",
    "adapter_digest",
    "check_adapter",
    "check_digest",
    "check_loadable",
    "check_planned",
    "check_trainable",
    "unpack_adapter",
]
