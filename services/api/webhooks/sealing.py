"""Brings the signing secrets under the newest key of the settings, so that an older one can be taken away."""

import redis
import structlog

from shared.errors import SignalboxError
from shared.ledger import AsyncLedger, calls
from shared.ledger.calls.webhooks import Fields
from shared.security.sealed import Sealed, keys_of
from shared.settings import Settings

log = structlog.get_logger()


async def seal_anew(ledger: AsyncLedger, settings: Settings) -> None:
    """Seal by the first key what an older one sealed; what fails is logged, and done at the next start."""
    listed = settings.webhook_key.get_secret_value()
    if len(keys_of(listed)) < 2:
        return
    every, first, count = Sealed(listed), Sealed(keys_of(listed)[0]), 0
    try:
        for tenant_id in (await ledger.do(calls.gauges())).held:  # every tenant with webhooks is listed there
            for endpoint in await ledger.do(calls.webhooks(tenant_id)):
                if fields := _sealed_by_older(endpoint, every, first):
                    change = calls.change_webhook(tenant_id, endpoint["id"], fields, secret=endpoint["secret"])
                    await ledger.do(change)
                    count += 1
    except (SignalboxError, redis.RedisError) as error:
        log.warning("secrets_not_sealed_anew", error=str(error), sealed=count)
    else:
        log.info("secrets_sealed_anew", sealed=count)


def _sealed_by_older(endpoint: Fields, every: Sealed, first: Sealed) -> dict[str, str]:
    found = {name: endpoint[name] for name in ("secret", "old_secret") if endpoint.get(name)}
    return {name: first.seal(every.open(sealed)) for name, sealed in found.items() if not first.opens(sealed)}
