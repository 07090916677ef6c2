"""Actor: who does something. Every write service takes one."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from freehold.tenancy.choices import ActorKind, Role


@dataclass(frozen=True, kw_only=True, slots=True)
class Actor:
    """Who acts, in which tenant and with which role there.

    Attributes:
        id: public id (`usr_…`, `key_…`), or the name of a process.
        label: for people: an email address, a key's name.
        models_allowed: public names of the only models a key may call; None: all.
        expires_at: when a key ends; None: never. A key made by this actor can neither call more nor live longer.
        operator: runs the installation; the only one allowed the platform's own operations.
    """

    kind: ActorKind
    id: str
    label: str
    tenant_id: uuid.UUID | None = None
    role: Role | None = None
    operator: bool = False
    models_allowed: frozenset[str] | None = None
    expires_at: datetime | None = None


def system(name: str) -> Actor:
    """A process of ours acting by itself, such as `reconcile` or `seed`."""
    return Actor(kind=ActorKind.SYSTEM, id=name, label=name)
