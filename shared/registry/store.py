"""The object store of adapters, selectors, data sets and manifests: any S3 server, or a folder for unit tests."""

import contextlib
import errno
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from shared.errors import NotFound, Unavailable
from shared.settings import Settings

_PIECE_BYTES = 1 << 20
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class ObjectStore(Protocol):
    """Keys are slash-separated paths made by code, never by a user; methods raise `NotFound` and `Unavailable`."""

    def put(self, key: str, data: bytes) -> None:
        """Store bytes atomically: a reader sees all of them or none."""

    def put_file(self, key: str, path: Path) -> None:
        """Store a file atomically."""

    def get(self, key: str) -> bytes:
        """Read an object."""

    def get_file(self, key: str, path: Path) -> None:
        """Write an object to `path` atomically, through a temporary file beside it."""

    def exists(self, key: str) -> bool:
        """Whether the object exists."""

    def keys(self, prefix: str) -> list[str]:
        """Return all keys with a prefix, sorted."""

    def delete(self, key: str) -> None:
        """Remove an object; a missing object is no error."""


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file, which then replaces `path` atomically, or is deleted after an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".part-") as folder:
        part = Path(folder) / "part"
        yield part
        part.replace(path)


class FolderStore:
    """Stores objects as files in one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def _path(self, key: str) -> Path:
        path = (self._root / key).resolve()
        if not path.is_relative_to(self._root):
            raise NotFound("object_not_found", f"no object {key!r}")
        return path

    def put(self, key: str, data: bytes) -> None:
        """See `ObjectStore`."""
        with _replacing(self._path(key)) as part:
            part.write_bytes(data)

    def put_file(self, key: str, path: Path) -> None:
        """See `ObjectStore`."""
        with _replacing(self._path(key)) as part:
            shutil.copyfile(path, part)

    def get(self, key: str) -> bytes:
        """See `ObjectStore`."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError as error:
            raise NotFound("object_not_found", f"no object {key!r}") from error

    def get_file(self, key: str, path: Path) -> None:
        """See `ObjectStore`."""
        with _replacing(path) as part:
            part.write_bytes(self.get(key))

    def exists(self, key: str) -> bool:
        """See `ObjectStore`."""
        return self._path(key).is_file()

    def keys(self, prefix: str) -> list[str]:
        """See `ObjectStore`."""
        found = (str(p.relative_to(self._root)) for p in self._root.rglob("*") if p.is_file())
        return sorted(key for key in found if key.startswith(prefix))

    def delete(self, key: str) -> None:
        """See `ObjectStore`."""
        self._path(key).unlink(missing_ok=True)


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
def _as_store_error(key: str) -> Iterator[None]:
    try:
        with as_disk_error():
            yield
    except S3Error as error:
        if error.code in ("NoSuchKey", "NoSuchBucket", "NoSuchObject"):
            raise NotFound("object_not_found", f"no object {key!r} in the store") from error
        raise Unavailable("store_unavailable", f"the object store refused {key!r}: {error.code}") from error
    except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise Unavailable(
                "store_not_believed",
                "the certificate of the object store (S3) is not believed: check SIGNALBOX_S3_CA_FILE and the name",
            ) from error
        raise Unavailable("store_unavailable", "the object store (S3) does not answer; try again shortly") from error


class S3Store:
    """Stores objects in one bucket of an S3 server, by the `minio` client."""

    def __init__(self, settings: Settings) -> None:
        url = urllib3.util.parse_url(settings.s3_url)
        self._bucket = settings.s3_bucket
        self._client = Minio(
            url.netloc or "",
            access_key=settings.s3_access_key,
            secret_key=settings.s3_secret_key.get_secret_value(),
            secure=url.scheme == "https",
            region="us-east-1",
            http_client=urllib3.PoolManager(
                cert_reqs="CERT_REQUIRED",
                ca_certs=str(settings.s3_ca_file) if settings.s3_ca_file else None,
                timeout=urllib3.Timeout(connect=3, read=60),
                retries=urllib3.Retry(total=2, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
                maxsize=16,
            ),
        )

    def ensure_bucket(self) -> None:
        """Create the bucket if it is missing."""
        with _as_store_error(self._bucket):
            if not self._client.bucket_exists(bucket_name=self._bucket):
                try:
                    self._client.make_bucket(bucket_name=self._bucket)
                except S3Error as error:
                    if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                        raise

    def put(self, key: str, data: bytes) -> None:
        """See `ObjectStore`."""
        with _as_store_error(key):
            self._client.put_object(bucket_name=self._bucket, object_name=key, data=io.BytesIO(data), length=len(data))

    def put_file(self, key: str, path: Path) -> None:
        """See `ObjectStore`."""
        with _as_store_error(key):
            self._client.fput_object(bucket_name=self._bucket, object_name=key, file_path=str(path))

    def get(self, key: str) -> bytes:
        """See `ObjectStore`."""
        with _as_store_error(key), self._reading(key) as response:
            return bytes(response.read())

    def get_file(self, key: str, path: Path) -> None:
        """See `ObjectStore`."""
        # Not the client's `fget_object`, which needs one more round trip for the object's size.
        with _as_store_error(key), _replacing(path) as part, self._reading(key) as response, part.open("wb") as file:
            for piece in response.stream(_PIECE_BYTES):
                file.write(piece)

    def exists(self, key: str) -> bool:
        """See `ObjectStore`."""
        try:
            with _as_store_error(key):
                self._client.stat_object(bucket_name=self._bucket, object_name=key)
        except NotFound:
            return False
        return True

    def keys(self, prefix: str) -> list[str]:
        """See `ObjectStore`."""
        with _as_store_error(prefix):
            found = self._client.list_objects(bucket_name=self._bucket, prefix=prefix, recursive=True)
            return sorted(item.object_name for item in found)

    def delete(self, key: str) -> None:
        """See `ObjectStore`."""
        with _as_store_error(key):
            self._client.remove_object(bucket_name=self._bucket, object_name=key)

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[urllib3.BaseHTTPResponse]:
        """Yield a response that raises where the connection ends too early."""
        response = self._client.get_object(bucket_name=self._bucket, object_name=key)
        try:
            yield response
        finally:
            response.close()
            response.release_conn()
