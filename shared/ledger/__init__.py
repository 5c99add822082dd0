"""The truth about jobs, in Redis: atomic transitions, attempts, leases, event streams, reconciliation."""

from shared.ledger import calls
from shared.ledger.client import AsyncLedger, Ledger, LedgerAway, as_ledger_away

__all__ = ["AsyncLedger", "Ledger", "LedgerAway", "as_ledger_away", "calls"]
