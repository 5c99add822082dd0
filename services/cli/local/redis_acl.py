"""Access rights at the two Redis servers: one user per service, with the commands and keys that its code uses.

The reconciler is a thread in every Celery service: each service may send to every queue but receive only from its own.
`operator` may do everything and is for people (`signalbox keys`, `doctor`, rotating passwords), never for a service.
`probe` may only ping, with any password, so health checks need no secret.
"""

import hashlib
from collections.abc import Mapping

from shared.ledger.keys import LedgerKey
from shared.redis_servers import RedisName

SERVICES = ("api", "selector", "worker", "trainer")
OPERATOR = "operator"
PROBE = "probe"
ACCOUNTS = (*SERVICES, OPERATOR)
"""Users that have a password."""


def _may_write(*keys: LedgerKey) -> str:
    return "".join(f" ~{key.pattern}" for key in keys)


def _may_read(*keys: LedgerKey) -> str:
    return "".join(f" %R~{key.pattern}" for key in keys)


# Clients also send their version (CLIENT SETINFO) and go on if that is denied; a rule that names it would keep a
# Redis before 7.2 from starting.
_HELLO = "+ping"
# A service looks whether the server is set as the promises need; INFO holds no password, unlike CONFIG.
_START = f"{_HELLO} +info"
# A script is loaded and called by its digest; each command inside it is checked as well.
_SCRIPTS = "+evalsha +script|load +time"

# What every transition of a job needs (shared/ledger/lua).
_JOBS = (
    _START
    + " "
    + _SCRIPTS
    + (
        " +hget +hmget +hexists +hgetall +hlen +hset +hdel +hincrby +exists +expire +del +get +set +xadd"
        " +sadd +srem +smembers +scard +srandmember"
        " +zadd +zscore +zrem +zincrby +zpopmin +zcard +zcount +zrange +zrevrange +zrangebyscore +zrevrangebyscore"
        " +zremrangebyscore +info"
    )
    + _may_write(LedgerKey.JOB, LedgerKey.EVENTS, LedgerKey.FEED, LedgerKey.STATES, LedgerKey.JOBS, LedgerKey.DEAD)
    + _may_write(LedgerKey.FOUND, LedgerKey.CONVERSATION)
    + _may_write(LedgerKey.QUEUES, LedgerKey.WAITING, LedgerKey.LEASED, LedgerKey.CONSUMERS, LedgerKey.GIVEN_UP)
    + _may_write(LedgerKey.ENDS, LedgerKey.DEADLINES, LedgerKey.AFTER, LedgerKey.BLOCKERS, LedgerKey.SETTLING)
    + _may_write(LedgerKey.KEPT, LedgerKey.HELD, LedgerKey.USAGE, LedgerKey.SELECTIONS)
    + _may_write(LedgerKey.LANE, LedgerKey.TURNS, LedgerKey.INTERACTIVE_RUN, LedgerKey.TAKEN)
    + _may_read(LedgerKey.RELEASE, LedgerKey.RELEASES, LedgerKey.TEMPLATES, LedgerKey.WEBHOOKS)
    # The end of a job is noted for the rollout that it counts for.
    + _may_write(LedgerKey.ROLLOUT, LedgerKey.TRIALS)
    # The end of a job is noted for its tenant's webhooks.
    + _may_write(LedgerKey.WEBHOOK, LedgerKey.DUE, LedgerKey.UNDELIVERED, LedgerKey.DELIVERIES, LedgerKey.DELIVERY)
)
# Every Celery service also needs presence, batches of events, the reconciler's lock, and following releases.
_CELERY = (
    f"{_JOBS} +subscribe +unsubscribe &sb:hint:*"
    + _may_write(LedgerKey.PROCESS, LedgerKey.WRITER, LedgerKey.RECONCILER)
    + _may_read(LedgerKey.TENANTS)
)
# A record and its index are written in one transaction and read in one.
_MANIFESTS = "+hvals +zrevrangebylex +multi +exec" + _may_write(
    LedgerKey.ADAPTERS, LedgerKey.DATASETS, LedgerKey.CORPORA, LedgerKey.RELEASES, LedgerKey.VERSIONS, LedgerKey.INDEX
)
_POINTER = "+lindex +lrange +rpush" + _may_write(LedgerKey.RELEASE, LedgerKey.PROMOTIONS, LedgerKey.TENANTS)

_LEDGER: Mapping[str, str] = {
    "api": (
        f"{_JOBS} {_MANIFESTS} {_POINTER}"
        " +subscribe +unsubscribe +publish &sb:hint:* +hkeys +hscan +hsetnx +xread +xrange +xrevrange +pttl +incrby"
        " +rename +zunionstore +ltrim +xtrim +watch +unwatch"
        + _may_read(LedgerKey.API_KEYS, LedgerKey.PROCESS)
        + _may_write(LedgerKey.FEEDBACK, LedgerKey.IDEMPOTENCY, LedgerKey.LIMITS, LedgerKey.PROBE, LedgerKey.TEMPLATES)
        + _may_write(LedgerKey.ALIASES, LedgerKey.RETIREMENTS, LedgerKey.FEEDBACK_SOURCES, LedgerKey.USER_KEY)
        + _may_write(LedgerKey.FILES, LedgerKey.WEBHOOKS)
        + _may_write(LedgerKey.BATCH, LedgerKey.BATCHES, LedgerKey.OPEN_BATCHES, LedgerKey.CONSOLE)
        + _may_write(LedgerKey.OPEN_ROLLOUTS, LedgerKey.ROLLOUTS)
        + _may_write(LedgerKey.PROPOSALS, LedgerKey.LEARNER, LedgerKey.LEARNERS, LedgerKey.AUDIT)
        + _may_write(LedgerKey.TRAFFIC, LedgerKey.TRAFFIC_POLICIES, LedgerKey.TRAFFIC_PARTS, LedgerKey.SKETCHES)
    ),
    "selector": _CELERY,
    "worker": _CELERY,
    # A training's result files are made of its own events.
    "trainer": f"{_CELERY} {_MANIFESTS} {_POINTER} +publish +xrange"
    + _may_read(LedgerKey.FEEDBACK, LedgerKey.FEEDBACK_SOURCES)
    + _may_read(LedgerKey.TRAFFIC_POLICIES, LedgerKey.TRAFFIC_PARTS, LedgerKey.SKETCHES)
    + _may_write(LedgerKey.FILES),
    OPERATOR: "~* &* +@all",
    PROBE: _HELLO,
}

# Sending a message to any queue; the reconciler also counts messages; a consumer registers its queue's binding.
_SEND = f"{_START} (+lpush ~select* ~train* ~generate.*)"
_SEND_AGAIN = f"{_START} (+lpush +llen ~select* ~train* ~generate.*)"
_BROKER: Mapping[str, str] = {
    "api": _SEND,
    "selector": f"{_SEND_AGAIN} +brpop +llen +multi +exec +sadd ~select* ~_kombu.binding*.select",
    "worker": f"{_SEND_AGAIN} +brpop +llen +multi +exec +sadd ~generate.* ~_kombu.binding*.generate.*",
    "trainer": f"{_SEND_AGAIN} +brpop +llen +multi +exec +sadd ~train* ~_kombu.binding*.train",
    OPERATOR: "~* &* +@all",
    PROBE: _HELLO,
}
_RULES: Mapping[RedisName, Mapping[str, str]] = {"ledger": _LEDGER, "broker": _BROKER}


def acl_file(server: RedisName, passwords: Mapping[str, str]) -> str:
    """The content of one server's `aclfile`, with passwords as SHA-256.

    Nobody can log in as the default user, and yet it has all rights: Redis 7 replays its append-only file as that user,
    and silently drops the writes of scripts that those rights do not allow (redis/redis#14541).
    """
    rules = _RULES[server]
    lines = (f"user {name} on {_password(name, passwords)} resetchannels {rules[name]}" for name in rules)
    return "\n".join(["user default off resetpass ~* &* +@all", *lines, ""])


def url_of(account: str, password: str, address: str) -> str:
    """The URL at which an account connects to a server."""
    return f"redis://{account}:{password}@{address}/0"


def _password(name: str, passwords: Mapping[str, str]) -> str:
    return "nopass" if name == PROBE else f"#{hashlib.sha256(passwords[name].encode()).hexdigest()}"
