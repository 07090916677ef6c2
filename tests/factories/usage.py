"""Usage as gateways report it, and what it hangs on."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import redis

from freehold.common import ids
from freehold.tenancy.actors import system
from freehold.tenancy.models import Tenant
from freehold.tenancy.services import tenant_create
from freehold.wire import names
from freehold.wire.usage import UsageBatch, UsageRecord

ENDPOINT = uuid.UUID("019a0000-0000-7000-8000-00000000e0e0")
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def make_tenant(slug: str = "acme") -> Tenant:
    """A tenant, made through its service."""
    return tenant_create(actor=system("test"), slug=slug, name=slug.title())


def nanoseconds(moment: datetime) -> int:
    """Unix nanoseconds, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000


def make_record(
    tenant: Tenant, /, *, at: datetime = NOON, endpoint: uuid.UUID = ENDPOINT, **fields: Any
) -> UsageRecord:
    """One answered request of 10 prompt, 4 cached and 5 completion tokens."""
    values: dict[str, Any] = {
        "event_id": uuid.uuid4().hex,
        "occurred_at_ns": nanoseconds(at),
        "tenant": tenant.public_id,
        "key": "key_x",
        "endpoint": ids.encode("ep", endpoint),
        "generation": 1,
        "model": f"{tenant.slug}/chat",
        "route": "/v1/chat/completions",
        "region": "local",
        "weight_digest": "sha256:w",
        "engine_digest": "sha256:e",
        "outcome": "ok",
        "prompt_tokens": 10,
        "cached_tokens": 4,
        "completion_tokens": 5,
    }
    return UsageRecord(**{**values, **fields})


def make_batch(first_sequence: int, *records: UsageRecord, gateway: str = "gw-0", epoch: str = "a") -> bytes:
    """The bytes of a UsageBatch."""
    batch = UsageBatch(gateway=gateway, epoch=epoch, first_sequence=first_sequence, records=records)
    return msgspec.msgpack.encode(batch)


def send(client: redis.Redis, *batches: bytes) -> None:
    """Puts batches on the stream, as a gateway's shipper does."""
    for batch in batches:
        client.xadd(names.USAGE, {"b": batch})
