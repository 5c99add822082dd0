"""What an object store's refusal means, and what to do next."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from email.utils import formatdate

import urllib3
from minio.error import MinioException, S3Error

from shared.errors import NotFound, Unavailable

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REGION = re.compile(rb"<Region>([\w-]{1,63})</Region>")


class Corrupt(Unavailable):
    """What is stored under a digest has another digest: it is not used."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(
            f"{kind}_corrupt",
            f"the stored copy of {kind.replace('_', ' ')} {name} does not match its digest and is not used: upload or "
            "train the same again, which replaces it, or restore a backup",
        )


@contextlib.contextmanager
def as_disk_error() -> Iterator[None]:
    """Raise `Unavailable` `disk_full` where the local disk is full: a retry may succeed once it has space."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        why = os.strerror(error.errno)
        raise Unavailable(
            "disk_full", f"the local disk takes no more ({why}): make room, or lower SIGNALBOX_ADAPTER_CACHE_MIB"
        ) from error


@contextlib.contextmanager
def as_store_error(key: str) -> Iterator[None]:
    """Raise `NotFound` or `Unavailable` where an operation on the object `key` fails."""
    try:
        with as_disk_error():
            yield
    except S3Error as error:
        raise _refused(key, error) from error
    except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise Unavailable(
                "store_not_believed",
                "the certificate of the object store (S3) is not believed: check SIGNALBOX_S3_CA_FILE and the name",
            ) from error
        raise Unavailable("store_unavailable", "the object store (S3) does not answer; try again shortly") from error


def is_of_another_region(error: S3Error) -> bool:
    """Whether the request was signed for another region than the bucket's."""
    return error.code in {"AuthorizationHeaderMalformed", "PermanentRedirect"}


def named_region(error: S3Error) -> str | None:
    """Return the region that a refusal names, in its body (AWS, MinIO, Garage) or its header (AWS)."""
    named = _REGION.search(error.response.data)
    return named[1].decode() if named else error.response.headers.get("x-amz-bucket-region")


def _refused(key: str, error: S3Error) -> NotFound | Unavailable:
    if error.code in ("NoSuchKey", "NoSuchBucket", "NoSuchObject"):
        return NotFound("object_not_found", f"no object {key!r} in the store: restore it from a backup")
    if is_of_another_region(error):
        return _elsewhere(named_region(error), error.code)
    if error.code == "RequestTimeTooSkewed":
        return _other_time(error.response.headers.get("Date", "another time"))
    return Unavailable("store_unavailable", f"the object store refused {key!r}: {error.code}")


def _elsewhere(region: str | None, code: str | None) -> Unavailable:
    where, value = (f"the region {region!r}", f"={region}") if region else (f"another region ({code})", "")
    return Unavailable(
        "store_region_wrong", f"the object store (S3) is in {where}: set SIGNALBOX_S3_REGION{value} for every process"
    )


def _other_time(its: str) -> Unavailable:
    return Unavailable(
        "store_clock_skewed",
        f"the clock of the object store (S3) says {its}, that of this machine {formatdate(usegmt=True)}, and requests "
        "are signed with the time: set the one that is wrong, and keep both by NTP",
    )
