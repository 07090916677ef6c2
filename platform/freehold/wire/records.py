"""What the gateway knows of the control plane. Published by tenancy (keys, tenants), serving (routes) and billing
(prices, accounts)."""

from __future__ import annotations

from typing import TypeVar

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one key, tenant or endpoint may do at most; 0 is no limit. Rates are token buckets: a bucket holds a
    minute's worth and refills evenly.

    Attributes:
        requests_per_minute: requests admitted.
        tokens_per_minute: prompt and completion tokens; the worst case is reserved, the difference returned.
        concurrency: requests in flight at once.
    """

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    concurrency: int = 0


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An API key; the field in its section is the SHA-256 (hex) of the secret. A revoked key is absent.

    Attributes:
        id: public id (`key_…`).
        tenant: public id of the tenant it belongs to (`tnt_…`).
        scopes: what it may do; inference needs `inference`.
        models: public model names it may call; None means every model the tenant sees.
        expires_at: Unix seconds, or None.
        limits: of this key alone.
    """

    id: str
    tenant: str
    scopes: tuple[str, ...] = ("inference",)
    models: tuple[str, ...] | None = None
    expires_at: int | None = None
    limits: Limits | None = None


class TenantRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the gateway must know of a tenant; the field is its public id.

    Attributes:
        slug: first half of the tenant's public model names.
        cache_salt: set on every request, so that no tenant can read another's prefix cache by timing.
        suspended: every request is answered 403.
        limits: of all its keys together.
    """

    slug: str
    cache_salt: str
    suspended: bool = False
    limits: Limits | None = None


class ReplicaRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One engine that is ready. `id` is new for every start, so that engine counters can be told apart."""

    id: str
    host: str
    port: int


class RouteRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a public model name leads; the field is that name (`tenant/endpoint`).

    Attributes:
        endpoint: public id (`ep_…`).
        tenant: public id of the owner; only its keys see the route unless `serverless`.
        generation: of the endpoint's spec; usage events carry it.
        task: `generate` or `embed`.
        served_model_name: the `model` the engine expects in a request.
        max_model_len: tokens of context, 0 where not known.
        billing_mode: `tokens` or `gpu_seconds`.
        region, weight_digest, engine_digest: copied onto every usage event.
        phase: the endpoint's phase; a known model that is not ready is never a 404.
        replicas: those that are ready; may be empty.
        created_at: Unix seconds, for `/v1/models`.
        adapter: LoRA adapter that a public name `tenant/endpoint:adapter` leads to; empty for the base model.
        limits: of all callers of the endpoint together.
        default_max_tokens: what a request that names none may generate at most; 0: what the context leaves.
    """

    endpoint: str
    tenant: str
    generation: int
    task: str
    served_model_name: str
    billing_mode: str
    region: str
    phase: str
    weight_digest: str
    engine_digest: str
    max_model_len: int = 0
    serverless: bool = False
    created_at: int = 0
    replicas: tuple[ReplicaRecord, ...] = ()
    adapter: str = ""
    limits: Limits | None = None
    default_max_tokens: int = 0


class PriceStep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model's tokens cost from a moment on, in nanos for a million tokens.

    Attributes:
        valid_from: Unix nanoseconds.
        prompt, completion: 0 where the book has no price.
        cached: of prompt tokens that came from the prefix cache; None: as other prompt tokens.
    """

    valid_from: int
    prompt: int = 0
    completion: int = 0
    cached: int | None = None


class PriceRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Prices of one public model name, oldest first: the one in force now, and those that are to come. The field is
    that name; empty for every model that has no record of its own."""

    steps: tuple[PriceStep, ...]


class AccountRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a tenant pays; the field is its public id. A tenant without a record pays by invoice.

    Attributes:
        prepaid: every request is reserved from the balance (wire/balances.py).
        outage_credit_nanos: what all gateways together may serve it for while the balance cannot be asked; each gateway
            has an equal share, spendable once. 0: nothing.
    """

    prepaid: bool = False
    outage_credit_nanos: int = 0


Record = KeyRecord | TenantRecord | RouteRecord | PriceRecord | AccountRecord
R = TypeVar("R", bound=msgspec.Struct)

_encoder = msgspec.msgpack.Encoder()


def encode(record: msgspec.Struct) -> bytes:
    """The msgpack map that travels."""
    return _encoder.encode(record)


def decode(data: bytes, kind: type[R]) -> R:
    """The inverse of `encode`; raises msgspec.ValidationError for what is not such a record."""
    return msgspec.msgpack.decode(data, type=kind)
