"""The object store of adapters, selectors, data sets and manifests: any S3 server, or a folder for unit tests."""

import contextlib
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import urllib3
from minio import Minio
from minio.commonconfig import CopySource
from minio.error import MinioException, S3Error
from minio.lifecycleconfig import Rule

from shared.errors import Invalid, NotFound
from shared.registry.store_errors import as_store_error, is_of_another_region, named_region
from shared.settings import Settings

_PIECE_BYTES = 1 << 20
_T = TypeVar("_T")


class StoredObject(NamedTuple):
    """One object, as a list of the store shows it."""

    key: str
    size_bytes: int
    modified_at: datetime


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

    def pieces(self, key: str) -> Iterator[bytes]:
        """Yield an object piece by piece; the first one raises what is wrong."""

    def copy(self, source: str, target: str) -> None:
        """Store an object under another key, too, without reading it here."""

    def exists(self, key: str) -> bool:
        """Whether the object exists."""

    def keys(self, prefix: str) -> list[str]:
        """Return all keys with a prefix, sorted."""

    def objects(self, prefix: str) -> list[StoredObject]:
        """Return all objects whose keys have a prefix, sorted by key."""

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
            raise NotFound("object_not_found", f"no object {key!r} in the store: restore it from a backup")
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
            raise NotFound("object_not_found", f"no object {key!r} in the store: restore it from a backup") from error

    def get_file(self, key: str, path: Path) -> None:
        """See `ObjectStore`."""
        with _replacing(path) as part:
            part.write_bytes(self.get(key))

    def pieces(self, key: str) -> Iterator[bytes]:
        """See `ObjectStore`."""
        yield self.get(key)

    def copy(self, source: str, target: str) -> None:
        """See `ObjectStore`."""
        self.put(target, self.get(source))

    def exists(self, key: str) -> bool:
        """See `ObjectStore`."""
        return self._path(key).is_file()

    def keys(self, prefix: str) -> list[str]:
        """See `ObjectStore`."""
        return [found.key for found in self.objects(prefix)]

    def objects(self, prefix: str) -> list[StoredObject]:
        """See `ObjectStore`."""
        files = {str(path.relative_to(self._root)): path for path in self._root.rglob("*") if path.is_file()}
        return [_listed(key, path) for key, path in sorted(files.items()) if key.startswith(prefix)]

    def delete(self, key: str) -> None:
        """See `ObjectStore`."""
        self._path(key).unlink(missing_ok=True)


def _listed(key: str, path: Path) -> StoredObject:
    stat = path.stat()
    return StoredObject(key, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))


class S3Store:
    """Stores objects in one bucket of an S3 server, by the `minio` client.

    Requests are signed for the region of the settings or of a URL of AWS. Where these name none, they are signed for
    `us-east-1` until the server refuses that, and from then on for the region that it names.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bucket = settings.s3_bucket
        url = urllib3.util.parse_url(settings.s3_url)
        names_region = (url.host or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))  # the client reads it there
        self._client = self._signing_for(settings.s3_region or (None if names_region else "us-east-1"))

    def _signing_for(self, region: str | None) -> Minio:
        """Return a client; without a region it asks by GetBucketLocation."""
        settings = self._settings
        url = urllib3.util.parse_url(settings.s3_url)
        return Minio(
            url.netloc or "",
            access_key=settings.s3_access_key,
            secret_key=settings.s3_secret_key.get_secret_value(),
            secure=url.scheme == "https",
            region=region,
            http_client=urllib3.PoolManager(
                cert_reqs="CERT_REQUIRED",
                ca_certs=str(settings.s3_ca_file) if settings.s3_ca_file else None,
                timeout=urllib3.Timeout(connect=3, read=60),
                retries=urllib3.Retry(total=2, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
                maxsize=16,
            ),
        )

    def _ask(self, work: Callable[[Minio], _T]) -> _T:
        """Do `work`; does it again where the server is in another region and the settings name none."""
        try:
            return self._ask_once(work)
        except S3Error as refusal:
            if self._settings.s3_region or not is_of_another_region(refusal):
                raise
            self._client = self._signing_for(named_region(refusal))
            return self._ask_once(work)

    def _ask_once(self, work: Callable[[Minio], _T]) -> _T:
        """Do `work`; where a HEAD is refused, raises the refusal of a GET, which has a body to name the cause."""
        try:
            return work(self._client)
        except S3Error as error:
            if not error.response.data and error.code in {"BadRequest", "AccessDenied"}:
                next(self._client.list_objects(bucket_name=self._bucket, prefix="ready"), None)
            raise

    def ensure_bucket(self) -> None:
        """Create the bucket if it is missing."""
        with as_store_error(self._bucket):
            if not self._ask(lambda client: client.bucket_exists(bucket_name=self._bucket)):
                self._ask(self._make_bucket)

    def _make_bucket(self, client: Minio) -> None:
        try:
            client.make_bucket(bucket_name=self._bucket)
        except S3Error as error:
            if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise

    def check_lifecycle(self) -> str:
        """Say what is known of the bucket's lifecycle; raises `Invalid` where a rule deletes objects by their age."""
        try:
            config = self._ask(lambda client: client.get_bucket_lifecycle(bucket_name=self._bucket))
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            why = error.code if isinstance(error, S3Error) else "the store does not answer"
            return f"not checked whether the bucket deletes objects by their age: {why}"
        if rules := [rule.rule_id or "without a name" for rule in config.rules if _deletes(rule)] if config else []:
            raise Invalid(
                "settings_invalid",
                f"the bucket {self._bucket!r} deletes adapters, data sets and releases by their age "
                f"(lifecycle rule {', '.join(rules)}): remove the rule",
            )
        return "the bucket keeps its objects"

    def put(self, key: str, data: bytes) -> None:
        """See `ObjectStore`."""
        with as_store_error(key):
            self._ask(
                lambda client: client.put_object(
                    bucket_name=self._bucket, object_name=key, data=io.BytesIO(data), length=len(data)
                )
            )

    def put_file(self, key: str, path: Path) -> None:
        """See `ObjectStore`."""
        with as_store_error(key):
            self._ask(lambda client: client.fput_object(bucket_name=self._bucket, object_name=key, file_path=str(path)))

    def get(self, key: str) -> bytes:
        """See `ObjectStore`."""
        return b"".join(self.pieces(key))

    def get_file(self, key: str, path: Path) -> None:
        """See `ObjectStore`."""
        # Not the client's `fget_object`, which needs one more round trip for the object's size.
        with as_store_error(key), _replacing(path) as part, part.open("wb") as file:
            file.writelines(self.pieces(key))

    def pieces(self, key: str) -> Iterator[bytes]:
        """See `ObjectStore`."""
        with as_store_error(key), self._reading(key) as response:
            yield from response.stream(_PIECE_BYTES)

    def copy(self, source: str, target: str) -> None:
        """See `ObjectStore`."""
        with as_store_error(source):
            original = CopySource(bucket_name=self._bucket, object_name=source)
            self._ask(lambda client: client.copy_object(self._bucket, target, original))

    def exists(self, key: str) -> bool:
        """See `ObjectStore`."""
        try:
            with as_store_error(key):
                self._ask(lambda client: client.stat_object(bucket_name=self._bucket, object_name=key))
        except NotFound:
            return False
        return True

    def keys(self, prefix: str) -> list[str]:
        """See `ObjectStore`."""
        return [found.key for found in self.objects(prefix)]

    def objects(self, prefix: str) -> list[StoredObject]:
        """See `ObjectStore`."""
        with as_store_error(prefix):
            found = self._ask(
                lambda client: list(client.list_objects(bucket_name=self._bucket, prefix=prefix, recursive=True))
            )
            return sorted(StoredObject(str(one.object_name), one.size, one.last_modified) for one in found)

    def delete(self, key: str) -> None:
        """See `ObjectStore`."""
        with as_store_error(key):
            self._ask(lambda client: client.remove_object(bucket_name=self._bucket, object_name=key))

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[urllib3.BaseHTTPResponse]:
        """Yield a response that raises where the connection ends too early."""
        response = self._ask(lambda client: client.get_object(bucket_name=self._bucket, object_name=key))
        try:
            yield response
        finally:
            response.close()
            response.release_conn()


def _deletes(rule: Rule) -> bool:
    """Whether a lifecycle rule deletes objects that nothing has replaced."""
    return bool(rule.status == "Enabled" and rule.expiration and (rule.expiration.days or rule.expiration.date))
