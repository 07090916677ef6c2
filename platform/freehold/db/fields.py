"""Secrets at rest: text encrypted under a rotating list of Fernet keys (settings.ENCRYPTION_KEYS, newest first)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet, MultiFernet
from django.conf import settings
from django.db import models


@lru_cache(maxsize=4)
def _fernet(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])


def _cipher() -> MultiFernet:
    return _fernet(tuple(settings.ENCRYPTION_KEYS))


if TYPE_CHECKING:
    _TextField = models.TextField[str, str]
else:
    _TextField = models.TextField  # Django's fields take no type arguments at run time


class EncryptedTextField(_TextField):
    """Plain text in Python, Fernet ciphertext in PostgreSQL. Any key of the list decrypts; the first encrypts."""

    def get_prep_value(self, value: Any) -> Any:
        """Encrypts on the way in; empty text stays empty."""
        return _cipher().encrypt(value.encode()).decode() if value else value

    def from_db_value(self, value: str | None, expression: object, connection: object) -> str | None:
        """Decrypts on the way out; raises InvalidToken when no key of the list fits."""
        return _cipher().decrypt(value.encode()).decode() if value else value
