"""Turns what an operator can mend into one sentence: wrong settings, files, servers."""

import redis
from pydantic_settings import SettingsError

from shared.errors import Invalid, SignalboxError, Unavailable
from shared.ledger import LedgerAway, as_ledger_away
from shared.settings import settings_error

MENDABLE = (redis.RedisError, OSError, ValueError)
"""Errors of libraries that `sentence_of` takes."""
_NO_UTF_8 = "an argument, a setting or a file holds bytes that are no UTF-8: write it in UTF-8"


def sentence_of(error: Exception) -> SignalboxError:
    """Return the error in one sentence; raises it again where it is a fault of the program."""
    match error:
        case SignalboxError():
            return error
        case redis.RedisError():
            return _of_server(error)
        case OSError():
            return _of_file(error)
        case SettingsError():
            return Invalid("settings_invalid", str(error))
        case UnicodeError():
            return Invalid("text_unreadable", _NO_UTF_8)
        case ValueError():
            return settings_error(error)
    raise error


def _of_file(error: OSError) -> SignalboxError:
    where = f"{error.filename}: " if error.filename else ""
    return Invalid("file_unusable", f"{where}{error.strerror or error}; check the path, its rights and the disk")


def _of_server(error: redis.RedisError) -> SignalboxError:
    try:
        with as_ledger_away():
            raise error
    except LedgerAway as away:
        return away
    except redis.RedisError:
        return Unavailable("redis_refuses", f"the Redis server refuses this ({error}): check its user's rights")
