"""Checks an adapter's files before they are trusted; uses no model library."""

from shared.adapter_files.archive import Unpacked, unpack_adapter
from shared.adapter_files.check import AdapterInfo, AdapterLimits, check_adapter
from shared.adapter_files.config import some_of
from shared.adapter_files.folder import (
    CONFIG_NAME,
    ORIGINAL_NAME,
    WEIGHTS_NAME,
    adapter_digest,
    check_digest,
    check_loadable,
    digest_before_weights,
)
from shared.adapter_files.normalise import Accepted, accept_adapter
from shared.adapter_files.planned import check_planned, check_trainable
from shared.adapter_files.shapes import BaseShapes
from shared.adapter_files.steps import Step, Steps
from shared.adapter_files.targets import size_of

__all__ = [
    "CONFIG_NAME",
    "ORIGINAL_NAME",
    "WEIGHTS_NAME",
    "Accepted",
    "AdapterInfo",
    "AdapterLimits",
    "BaseShapes",
    "Step",
    "Steps",
    "Unpacked",
    "accept_adapter",
    "adapter_digest",
    "check_adapter",
    "check_digest",
    "check_loadable",
    "check_planned",
    "check_trainable",
    "digest_before_weights",
    "size_of",
    "some_of",
    "unpack_adapter",
]
