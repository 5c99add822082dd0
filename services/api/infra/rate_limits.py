"""Rate limits of a key: requests per minute, and tokens of prompts and answers per minute, counted in the ledger.

The length of an answer is unknown in advance, so a job is charged when it is accepted: its `max_new_tokens` for each
choice, and one token for every four bytes of its text.
"""

import math
import time

import redis.asyncio
from limits import RateLimitItemPerMinute
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from shared.errors import Invalid, TooMany
from shared.ledger.keys import LedgerKey
from shared.security.api_keys import Key
from shared.settings import Settings

BYTES_PER_TOKEN = 4


class RateLimits:
    """The counts of every key, shared by all API processes; a key without a limit costs no call."""

    def __init__(self, client: "redis.asyncio.Redis", settings: Settings) -> None:
        storage = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix=LedgerKey.LIMITS.removesuffix(":"),
            connection_pool=client.connection_pool,  # type: ignore[arg-type] # the library declares plain values for all options
        )
        self.limiter = SlidingWindowCounterRateLimiter(storage)
        self._requests = settings.requests_per_minute
        self._tokens = settings.tokens_per_minute
        self._feedback = settings.feedback_per_minute

    async def count_request(self, key: Key) -> None:
        """Count one request of this key; raises `TooMany`."""
        limit = self._requests if key.requests_per_minute is None else key.requests_per_minute
        await self._take(key, "requests", limit, 1)

    async def count_feedback(self, key: Key) -> None:
        """Count one feedback of this key; raises `TooMany`."""
        await self._take(key, "feedback", self._feedback, 1)

    async def count_tokens(self, key: Key, *texts: str, new_tokens: int = 0) -> None:
        """Count the tokens that a job may use; raises `TooMany`, or `Invalid` where no minute allows as many."""
        limit = self._tokens if key.tokens_per_minute is None else key.tokens_per_minute
        if not limit:
            return
        count = estimated_tokens(*texts) + new_tokens
        if count > limit:
            raise Invalid(
                "above_token_limit",
                f"this job may take {count} tokens, this API key {limit} a minute; shorten its text or its answer",
            )
        await self._take(key, "tokens", limit, count)

    async def _take(self, key: Key, what: str, limit: int, count: int) -> None:
        if not limit:
            return
        item = RateLimitItemPerMinute(limit, namespace=what)
        try:
            if await self.limiter.hit(item, key.id, cost=count):
                return
        except redis.exceptions.OutOfMemoryError:
            return  # a full ledger counts nothing, and takes no work that would have to be counted
        until = (await self.limiter.get_window_stats(item, key.id)).reset_time
        seconds = max(1, math.ceil(until - time.time()))
        raise TooMany(
            f"too_many_{what}",
            f"this API key may ask for {limit} {what} a minute; try again in {seconds} s",
            retry_after_seconds=seconds,
        )


def estimated_tokens(*texts: str) -> int:
    """Estimate the tokens of texts without a tokenizer; a text that is not empty has at least one."""
    return sum(math.ceil(len(text.encode()) / BYTES_PER_TOKEN) for text in texts)
