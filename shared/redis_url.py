"""What a Redis URL may be; no refusal shows any part of it, because it may hold a password."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

_FORM = "write redis://USER:PASSWORD@HOST:PORT/0, or rediss:// for TLS"
_ENCODE = f"it cannot be read: {_FORM}, and percent-encode what USER and PASSWORD hold of # / ? @ : [ ] % (# is %23)"
_ONE_SERVER = "is not supported: name one server, the master itself"
_OPTIONS = "an option after its ? is none of the Redis client's; leave it out"
_DATABASE = re.compile("/?|/[0-9]{1,5}")


def check_redis_url(url: str) -> str:
    """Return the URL of one Redis server; raises `ValueError` that says how to write it."""
    scheme, separator, rest = url.partition("://")
    if "sentinel" in scheme.lower():
        raise ValueError(f"Redis Sentinel {_ONE_SERVER}")
    if "cluster" in scheme.lower() or "," in rest.rpartition("@")[2]:
        raise ValueError(f"Redis Cluster {_ONE_SERVER}")
    if not separator or scheme not in ("redis", "rediss", "unix"):
        raise ValueError(f"it begins with neither redis:// nor rediss://: {_FORM}")
    if scheme != "unix" and not _is_whole(url):
        raise ValueError(_ENCODE)
    if not _is_taken(url):
        raise ValueError(_OPTIONS)
    return url


def with_tls_options(url: str, files: Mapping[str, Any]) -> str:
    """Return the URL with the query options by which redis-py and kombu check the server and present a certificate.

    Raises `ValueError` as `check_redis_url` does, and where the URL turns the server's check off.
    """
    if not check_redis_url(url).startswith("rediss://"):
        return url
    parts = urlsplit(url)
    known = dict(parse_qsl(parts.query))
    checked = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"}
    if any(name in url and known.get(name) != value for name, value in checked.items()):
        raise ValueError("a rediss:// URL may not turn its server's check off; set SIGNALBOX_REDIS_CA_FILE")
    named = {
        "ssl_ca_certs": files.get("redis_ca_file"),
        "ssl_certfile": files.get("redis_cert_file"),
        "ssl_keyfile": files.get("redis_key_file"),
    }
    known |= checked | {name: str(file) for name, file in named.items() if file}
    return urlunsplit(parts._replace(query=urlencode(known)))


def _is_whole(url: str) -> bool:
    """Whether host, port and database are where they belong: an unencoded sign of the password ends the part before."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    return _DATABASE.fullmatch(parts.path) is not None and not parts.fragment and "@" not in parts.query


def _is_taken(url: str) -> bool:
    from redis import ConnectionPool, RedisError

    try:
        ConnectionPool.from_url(url).make_connection()
    except (ValueError, TypeError, RedisError):
        return False
    return True


def tls_options(files: Mapping[str, Any]) -> dict[str, str]:
    """Return the query options by which redis-py and kombu check the server and present a client certificate."""
    named = {
        "ssl_ca_certs": files.get("redis_ca_file"),
        "ssl_certfile": files.get("redis_cert_file"),
        "ssl_keyfile": files.get("redis_key_file"),
    }
    return {
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": "true",
        **{name: str(file) for name, file in named.items() if file},
    }


def with_query(url: str, options: dict[str, str]) -> str:
    """Return the URL with these query options, which replace those of the same name."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=urlencode(dict(parse_qsl(parts.query)) | options)))
