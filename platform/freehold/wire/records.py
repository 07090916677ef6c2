"""What the gateway knows of the control plane. Published by tenancy (keys, tenants) and serving (routes)."""

from __future__ import annotations

from typing import TypeVar

import msgspec


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An API key; the field in its section is the SHA-256 (hex) of the secret. A revoked key is absent.

    Attributes:
        id: public id (`key_…`).
        tenant: public id of the tenant it belongs to (`tnt_…`).
        scopes: what it may do; inference needs `inference`.
        models: public model names it may call; None means every model the tenant sees.
        expires_at: Unix seconds, or None.
    """

    id: str
    tenant: str
    scopes: tuple[str, ...] = ("inference",)
    models: tuple[str, ...] | None = None
    expires_at: int | None = None


class TenantRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the gateway must know of a tenant; the field is its public id.

    Attributes:
        slug: first half of the tenant's public model names.
        cache_salt: set on every request, so that no tenant can read another's prefix cache by timing.
        suspended: every request is answered 403.
    """

    slug: str
    cache_salt: str
    suspended: bool = False


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


Record = KeyRecord | TenantRecord | RouteRecord
R = TypeVar("R", bound=msgspec.Struct)

_encoder = msgspec.msgpack.Encoder()


def encode(record: msgspec.Struct) -> bytes:
    """The msgpack map that travels."""
    return _encoder.encode(record)


def decode(data: bytes, kind: type[R]) -> R:
    """The inverse of `encode`; raises msgspec.ValidationError for what is not such a record."""
    return msgspec.msgpack.decode(data, type=kind)
