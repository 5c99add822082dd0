"""Times in records."""

from datetime import UTC, datetime


def utc_now() -> str:
    """Return the present time in the format of manifests."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
