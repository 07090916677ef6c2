"""What metering's selectors answer with. Free of Django, so that rating can be a pure function of it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class UsageSum:
    """Usage of one (tenant, endpoint, model, billing mode) in one UTC hour. Tokens; cached is a part of prompt."""

    tenant_id: uuid.UUID
    endpoint_id: uuid.UUID
    model: str
    billing_mode: str
    hour: datetime
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class UsageTotal:
    """Usage of a tenant, or of one of its endpoints, in a period."""

    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A time in which a replica was ready: [started_at, ended_at), with that many accelerators."""

    tenant_id: uuid.UUID
    endpoint_id: uuid.UUID
    billing_mode: str
    flavor: str
    accelerators: int
    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class DueHourKey:
    """Names a tenant's hour that waits to be rated."""

    tenant_id: uuid.UUID
    hour: datetime
