"""Billing's jobs: what tasks call."""

from __future__ import annotations

from freehold.billing.publication import epoch_ensure
from freehold.billing.records import PostReport
from freehold.billing.services import ledger_post


def post_ledger() -> PostReport:
    """Posts every hour that is due. Every few minutes is often enough."""
    return ledger_post()


def ensure_money_epoch() -> bool:
    """Publishes all balances anew where Redis has lost them. Returns whether it had."""
    return epoch_ensure()
