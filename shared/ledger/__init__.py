"""The ledger holds the state of all jobs in Redis: atomic transitions, attempts, leases and event streams."""

from shared.ledger import calls
from shared.ledger.client import AsyncLedger, Ledger, LedgerAway, as_ledger_away

__all__ = ["AsyncLedger", "Ledger", "LedgerAway", "as_ledger_away", "calls"]
