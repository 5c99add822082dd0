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
RATE_LIMITS = [f"x-ratelimit-{of}-{what}" for what in ("requests", "tokens") for of in ("limit", "remaining", "reset")]
"""Names of the headers that say what is left to a key."""


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
        await self._take(key, "requests", self._limits(key)["requests"], 1)

    async def count_feedback(self, key: Key) -> None:
        """Count one feedback of this key; raises `TooMany`."""
        await self._take(key, "feedback", self._feedback, 1)

    async def count_tokens(self, key: Key, *texts: str, new_tokens: int = 0) -> None:
        """Count the tokens that a job may use; raises `TooMany`, or `Invalid` where no minute allows as many."""
        limit = self._limits(key)["tokens"]
        if not limit:
            return
        count = estimated_tokens(*texts) + new_tokens
        if count > limit:
            raise Invalid(
                "above_token_limit",
                f"this job may take {count} tokens, this API key {limit} a minute; shorten its text or its answer",
            )
        await self._take(key, "tokens", limit, count)

    async def headers(self, key: Key) -> dict[str, str]:
        """Return what is left to this key, as OpenAI's clients read it; without a limit there is nothing to say."""
        headers = {}
        for what, limit in self._limits(key).items():
            if limit:
                item = RateLimitItemPerMinute(limit, namespace=what)
                stats = await self.limiter.get_window_stats(item, key.id)
                headers[f"x-ratelimit-limit-{what}"] = str(limit)
                headers[f"x-ratelimit-remaining-{what}"] = str(stats.remaining)
                headers[f"x-ratelimit-reset-{what}"] = f"{_seconds_until(stats.reset_time)}s"
        return headers

    def _limits(self, key: Key) -> dict[str, int]:
        """The key's own limits, or those of every key; 0 means none."""
        own = {"requests": key.requests_per_minute, "tokens": key.tokens_per_minute}
        usual = {"requests": self._requests, "tokens": self._tokens}
        return {what: usual[what] if limit is None else limit for what, limit in own.items()}

    async def _take(self, key: Key, what: str, limit: int, count: int) -> None:
        if not limit:
            return
        item = RateLimitItemPerMinute(limit, namespace=what)
        try:
            if await self.limiter.hit(item, key.id, cost=count):
                return
        except redis.exceptions.OutOfMemoryError:
            return  # a full ledger counts nothing, and takes no work that would have to be counted
        seconds = _seconds_until((await self.limiter.get_window_stats(item, key.id)).reset_time)
        raise TooMany(
            f"too_many_{what}",
            f"this API key may ask for {limit} {what} a minute; try again in {seconds} s",
            retry_after_seconds=seconds,
        )


def _seconds_until(reset_time: float) -> int:
    return max(1, math.ceil(reset_time - time.time()))


def estimated_tokens(*texts: str) -> int:
    """Estimate the tokens of texts without a tokenizer; a text that is not empty has at least one."""
    return sum(math.ceil(len(text.encode()) / BYTES_PER_TOKEN) for text in texts)
