"""Whether the Redis servers are as the promises need: asked at every service's start, by readiness and by `doctor`."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import redis
import structlog

from shared.errors import Invalid
from shared.settings import Settings

log = structlog.get_logger()
RedisName = Literal["ledger", "broker"]
NO_DATABASE = "the server has no database of the number at the URL's end; write /0"
LEAST_VERSION = (6, 2)
"""The first that reads a stream on after an event; the users of `redis_acl.py` need 7."""
_URLS: Mapping[RedisName, str] = {"ledger": "redis_url", "broker": "broker_url"}
_TIMEOUT_SECONDS = 2
_NO_INFO = "INFO is refused: eviction, role, cluster mode, version and appendonly are not checked"
_NO_CONFIG = "only CONFIG tells appendfsync, which is not checked: `signalbox doctor` asks for it as operator"


class Standing(NamedTuple):
    """What a server's settings do to our promises: break them, weaken them, or cannot be read; each with what to do."""

    broken: tuple[str, ...] = ()
    weak: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All of it as one line."""
        return "; ".join(self.broken + self.weak + self.unknown) or "as they are needed"


def is_no_database(error: Exception) -> bool:
    """Whether the server refused the number of the database."""
    return isinstance(error, redis.ResponseError) and "DB index" in str(error)


def check_servers(settings: Settings) -> None:
    """Raise `Invalid` where a server's settings break a promise, and log what weakens one.

    A server that is away is waited for elsewhere.
    """
    for name, setting in _URLS.items():
        standing = standing_of(settings, name)
        if standing.broken:
            raise Invalid("settings_invalid", f"SIGNALBOX_{setting.upper()}: {'; '.join(standing.broken)}")
        for weak in standing.weak:
            log.warning("server_weak", server=name, why=weak)


def standing_of(settings: Settings, name: RedisName, *, as_operator: bool = False) -> Standing:
    """Ask a server for its settings and judge them; blocking. Only an operator may use CONFIG."""
    try:
        with redis.Redis.from_url(
            getattr(settings, _URLS[name]),
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            decode_responses=True,
        ) as client:
            client.ping()
            config = _asked(client, "CONFIG GET", "*appendfsync*") if as_operator else {}
            return judge(name, _asked(client, "INFO"), config)
    except redis.RedisError as error:
        if is_no_database(error):
            return Standing(broken=(NO_DATABASE,))
        return Standing(unknown=("not checked, because the server does not answer",))


def _asked(client: "redis.Redis", command: str, *args: str) -> dict[str, Any]:
    """Return what the server says of itself; nothing where this user, or a managed server, may not be asked."""
    try:
        said: dict[str, Any] = client.execute_command(command, *args)  # type: ignore[no-untyped-call]
    except redis.ResponseError:
        return {}
    return said


def judge(name: RedisName, info: Mapping[str, Any], config: Mapping[str, str]) -> Standing:
    """Judge a server by its replies to INFO and to CONFIG GET; where a reply is empty, nothing of it is known."""
    if not info:
        return Standing(unknown=(_NO_INFO,))
    broken = tuple(_broken(info))
    if name == "broker":  # its messages are sent again
        return Standing(broken)
    return Standing(broken, tuple(_weak(info, config)), () if config else (_NO_CONFIG,))


def _broken(info: Mapping[str, Any]) -> Iterator[str]:
    policy, version = info.get("maxmemory_policy", "noeviction"), str(info.get("redis_version", ""))
    if policy != "noeviction":
        yield f"a full server drops what was accepted (maxmemory-policy {policy}): set maxmemory-policy noeviction"
    if info.get("role", "master") != "master":
        yield "the server is a replica, which takes no writes: name its master"
    if info.get("cluster_enabled"):
        yield "the server is in cluster mode, in which no script reaches all keys: name a server outside a cluster"
    if version and _numbers(version) < LEAST_VERSION:
        yield f"the server is version {version}: run Redis 7 or Valkey"


def _weak(info: Mapping[str, Any], config: Mapping[str, str]) -> Iterator[str]:
    if not info.get("aof_enabled", 1):
        yield "appendonly is off, so a restart of the server loses accepted jobs: set appendonly yes"
    elif config.get("appendfsync", "always") != "always":
        yield (
            f"appendfsync is {config['appendfsync']}, so a crash of its machine loses what was accepted just before: "
            "set appendfsync always"
        )
    elif config.get("no-appendfsync-on-rewrite", "no") != "no":
        yield "no-appendfsync-on-rewrite is yes, so a crash during a rewrite loses what was accepted: set it to no"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
