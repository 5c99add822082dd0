"""Whether the Redis servers have the databases that their URLs name."""

import contextlib

import redis

from shared.errors import Invalid
from shared.settings import Settings

NO_DATABASE = "the server has no database of the number at the URL's end; write /0"


def is_no_database(error: Exception) -> bool:
    """Whether the server refused the number of the database."""
    return isinstance(error, redis.ResponseError) and "DB index" in str(error)


def check_databases(settings: Settings) -> None:
    """Raise `Invalid` where a server lacks its database; one that is away is waited for elsewhere."""
    for name in ("redis_url", "broker_url"):
        with (
            contextlib.suppress(redis.RedisError),
            redis.Redis.from_url(getattr(settings, name), socket_timeout=2, socket_connect_timeout=2) as client,
        ):
            _ping(client, name)


def _ping(client: redis.Redis, name: str) -> None:
    try:
        client.ping()
    except redis.ResponseError as error:
        if is_no_database(error):
            raise Invalid("settings_invalid", f"SIGNALBOX_{name.upper()}: {NO_DATABASE}") from error
        raise
