"""Base classes of every table."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.db import models

from freehold.common import ids


class BaseModel(models.Model):
    """UUIDv7 primary key, creation time, public id.

    `ID_PREFIX` is the prefix of the public id (`ep` → `ep_01j…`).
    """

    ID_PREFIX: ClassVar[str] = ""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        abstract = True

    @property
    def public_id(self) -> str:
        """What customers see and send."""
        return ids.encode(self.ID_PREFIX, self.id)

    @classmethod
    def parse_id(cls, public_id: str) -> uuid.UUID:
        """The primary key of a public id; raises NotFound for what cannot be one."""
        return ids.decode(cls.ID_PREFIX, public_id)


class TenantOwned(BaseModel):
    """A row that belongs to one tenant. Its migration must add rls.enable(…); a test lists the tables that lack it."""

    tenant = models.ForeignKey("tenancy.Tenant", on_delete=models.PROTECT, related_name="+")

    class Meta:
        abstract = True
