"""Every Redis key that more than one process touches. `1` is the version of the layout, not of a struct."""

from __future__ import annotations

from enum import StrEnum


class Section(StrEnum):
    """A part of the data plane's snapshot. Each is published by one domain."""

    KEYS = "keys"  # tenancy: SHA-256 of an API key (hex) → KeyRecord
    TENANTS = "tenants"  # tenancy: tenant id → TenantRecord
    ROUTES = "routes"  # serving: public model name → RouteRecord
    PRICES = "prices"  # billing: public model name → PriceRecord
    ACCOUNTS = "accounts"  # billing: tenant id → AccountRecord


CHANGES = "fh:1:changes"  # stream, capped: one entry a change, fields n (sequence), s (section), k (field), v (value)
SEQUENCE = "fh:1:sequence"  # integer: number of the newest change
USAGE = "fh:1:usage"  # stream: gateways → metering drain, one entry a batch of one gateway's journal
WATERMARKS = "fh:1:watermarks"  # hash: "<gateway>/<epoch>" → highest sequence committed in PostgreSQL


def section(name: Section) -> str:
    """Hash: field → 8 bytes big-endian version, then the msgpack struct; a version alone is a tombstone."""
    return f"fh:1:section:{name.value}"


def complete(name: Section) -> str:
    """Set by a full publication. A follower does not trust a section without it (Redis may have been emptied)."""
    return f"fh:1:complete:{name.value}"


# Limits and money. All values are integers; time is Redis's own (docs/gateway.md, Admission).

GATEWAYS = "fh:1:gateways"  # sorted set: gateway → when its lease ends, Unix milliseconds
MONEY_EPOCH = "fh:1:money:epoch"  # hash, set by billing after every balance: id, at (Unix ms), expected (JSON list)
MONEY_JOINED = "fh:1:money:joined"  # hash: gateway → the epoch for which it has told what it holds
MONEY_OPEN = "fh:1:money:open"  # string: the epoch for which all have; balances decide only while it is the current one


def money_draft(token: str) -> str:
    """String with a lifetime: billing publishes balances for an epoch to come. Gone: Redis lost some of them."""
    return f"fh:1:money:draft:{token}"


def quota(scope: str) -> str:
    """Hash: token buckets of a key (`k:<id>`), a tenant (`t:<id>`) or an endpoint (`e:<id>`), and `c`, its requests in
    flight at all gateways together."""
    return f"fh:1:quota:{scope}"


def money(tenant: str) -> str:
    """Hash: `b` balance in nanos as the ledger has it, `v` its version, `h` nanos held by all gateways together."""
    return f"fh:1:money:{tenant}"


def held(gateway: str) -> str:
    """Hash of one gateway's part in these sums: `c:<scope>` requests in flight, `m:<tenant>` nanos held."""
    return f"fh:1:held:{gateway}"


def log_wanted(endpoint: str) -> str:
    """String with a lifetime: somebody is looking at this endpoint's logs."""
    return f"fh:1:logs:wanted:{endpoint}"


LOG_WANTED_PATTERN = "fh:1:logs:wanted:*"


def log_lines(endpoint: str) -> str:
    """Stream, capped, with a lifetime: fields r (replica), t (text)."""
    return f"fh:1:logs:lines:{endpoint}"
