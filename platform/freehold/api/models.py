"""What the API itself remembers: answers to keyed POSTs."""

from __future__ import annotations

from django.db import models

from freehold.db.fields import EncryptedTextField
from freehold.db.models import TenantOwned


class IdempotencyRecord(TenantOwned):
    """The answer to the first POST with an Idempotency-Key (api.idempotency).

    Attributes:
        fingerprint: SHA-256 hex over who asked, for what, with which body.
        status, location: of the answer.
        body: JSON text; encrypted, because the answer to POST /api-keys holds a secret.
    """

    ID_PREFIX = "idm"

    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField()
    location = models.TextField(blank=True)
    body = EncryptedTextField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "key"], name="idempotency_key_once")]
        indexes = [models.Index(fields=["created_at"], name="idempotency_created")]

    def __str__(self) -> str:
        return self.key
