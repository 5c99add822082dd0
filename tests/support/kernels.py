"""The compiled kernels, one library for all tests: compiling it takes longer than most of them."""

import os
from pathlib import Path

DATA_DIR = Path(os.environ.get("SIGNALBOX_DATA_DIR", Path(__file__).parents[2] / ".data"))
"""Kept between runs: converting the base model takes a minute, compiling the kernels seconds."""
KERNELS = DATA_DIR / "cache" / "kernels"


def share_kernels(data_dir: Path) -> None:
    """Let the processes of a system with this data folder find them."""
    KERNELS.mkdir(parents=True, exist_ok=True)
    cache = data_dir / "cache"
    cache.mkdir(parents=True)
    (cache / "kernels").symlink_to(KERNELS)
