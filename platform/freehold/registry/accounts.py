"""What a tenant keeps and may keep. Whoever promises room, adds content, refers to content or collects it does so under
the lock of the tenant's account, so that none of them acts on what another is changing. Transactions here are short:
no byte is moved inside of one.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.db.models import Sum

from freehold.common import clock
from freehold.common.errors import FreeholdError, InvalidInput, NotFound
from freehold.db.rls import tenant_scope
from freehold.registry.models import Blob, StorageAccount, Upload
from freehold.tenancy.models import Tenant
from freehold.tenancy.permissions import Operation, require
from freehold.tenancy.services import audit_record

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection, Iterator

    from freehold.tenancy.actors import Actor

NO_LIMIT: Final = -1  # as an account's quota_bytes: not even the installation's default holds

_LARGEST: Final = 2**62
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_AMOUNT: Final = re.compile(r"(\d{1,19}(?:\.\d{1,6})?)\s*([KMGTP]i?B?|B)?", re.IGNORECASE | re.ASCII)


class QuotaExceeded(FreeholdError):
    """There is no room for what is to be uploaded. 403, as the Hub answers: clients neither retry nor hide it."""

    status, code, title = 403, "quota_exceeded", "Storage quota exceeded"


@dataclass(frozen=True, kw_only=True)
class StorageUsage:
    """Bytes of one tenant. Content that several models share counts once.

    Attributes:
        stored_bytes: in the object store, referred to by a revision or not.
        reserved_bytes: promised to uploads under way.
        quota_bytes: None for no limit.
    """

    stored_bytes: int
    reserved_bytes: int
    quota_bytes: int | None

    @property
    def used_bytes(self) -> int:
        """What counts against the quota."""
        return self.stored_bytes + self.reserved_bytes

    @property
    def free_bytes(self) -> int | None:
        """What may still come; None for no limit."""
        return None if self.quota_bytes is None else max(0, self.quota_bytes - self.used_bytes)


@contextmanager
def locked(tenant_id: uuid.UUID) -> Iterator[StorageAccount]:
    """The tenant's scope, with its account locked until the end of the transaction."""
    with tenant_scope(tenant_id):
        StorageAccount.objects.bulk_create([StorageAccount(tenant_id=tenant_id)], ignore_conflicts=True)
        yield StorageAccount.objects.select_for_update().get(tenant_id=tenant_id)


def usage_of(account: StorageAccount) -> StorageUsage:
    """What the tenant keeps now. Read inside the tenant's scope."""
    stored = Blob.objects.filter(tenant_id=account.tenant_id).aggregate(total=Sum("size"))["total"]
    live = Upload.objects.filter(tenant_id=account.tenant_id, expires_at__gt=clock.now(), doomed_at=None)
    reserved = live.aggregate(total=Sum("size"))["total"]
    return StorageUsage(stored_bytes=stored or 0, reserved_bytes=reserved or 0, quota_bytes=_quota(account))


def _quota(account: StorageAccount) -> int | None:
    if account.quota_bytes is None:
        default: int | None = settings.STORAGE_QUOTA_BYTES
        return default
    return None if account.quota_bytes == NO_LIMIT else account.quota_bytes


def storage_usage(*, tenant_id: uuid.UUID) -> StorageUsage:
    """What a tenant keeps now, and may keep."""
    with tenant_scope(tenant_id):
        account = StorageAccount.objects.filter(tenant_id=tenant_id).first()
        return usage_of(account or StorageAccount(tenant_id=tenant_id))


def check_room(account: StorageAccount, wanted: int) -> None:
    """Raises QuotaExceeded where `wanted` more bytes do not fit."""
    usage = usage_of(account)
    if usage.free_bytes is None or wanted <= usage.free_bytes:
        return
    raise QuotaExceeded(
        f"This upload needs {in_words(wanted)}, but of your tenant's {in_words(usage.quota_bytes or 0)} of storage "
        f"only {in_words(usage.free_bytes)} are free ({in_words(usage.stored_bytes)} stored, "
        f"{in_words(usage.reserved_bytes)} reserved by uploads under way). Delete models you no longer need, or ask "
        "your provider for more."
    )


def settle(*, tenant_id: uuid.UUID, sha256s: Collection[str]) -> None:
    """Part of a commit, under the account's lock: from now on these contents stay because a revision refers to them,
    and no longer because somebody may be about to. So deleting the model frees them at once."""
    moment = clock.now()
    waiting = Blob.objects.filter(tenant_id=tenant_id, sha256__in=sha256s, keep_until__gt=moment)
    waiting.update(keep_until=moment)


def quota_set(*, actor: Actor, tenant_id: uuid.UUID, quota_bytes: int | None) -> StorageAccount:
    """Sets what a tenant may keep: bytes, NO_LIMIT, or None for the installation's default. What is there stays, even
    where it is more: then nothing new comes in. The same again changes nothing.

    Raises PermissionDenied (the operator's own), InvalidInput, NotFound.
    """
    require(actor, Operation.QUOTA_MANAGE, tenant_id=None)
    if quota_bytes is not None and quota_bytes != NO_LIMIT and not 0 <= quota_bytes <= _LARGEST:
        raise InvalidInput("A quota is a number of bytes from 0 on.", field="quota")
    with tenant_scope(tenant_id):
        if not Tenant.objects.filter(pk=tenant_id).exists():
            raise NotFound("There is no such tenant.")
    with locked(tenant_id) as account:
        before = account.quota_bytes
        if before != quota_bytes:
            account.quota_bytes = quota_bytes
            account.save(update_fields=["quota_bytes"])
            detail: dict[str, object] = {"quota": quota_in_words(quota_bytes), "before": quota_in_words(before)}
            audit_record(
                actor=actor, tenant_id=tenant_id, action="quota.set", object_id=account.public_id, detail=detail
            )
    return account


def quota_in_words(quota_bytes: int | None) -> str:
    """`500.0 GiB`, `none` or `default`, as quota_parse reads it."""
    if quota_bytes is None:
        return "default"
    return "none" if quota_bytes == NO_LIMIT else in_words(quota_bytes)


def quota_parse(text: str) -> int | None:
    """What a person writes for a quota: `500GiB`, `1.5 TiB`, `none` (no limit) or `default`. G and GiB are the same:
    multiples of 1024. Raises InvalidInput."""
    wanted = text.strip().lower()
    if wanted == "default":
        return None
    if wanted == "none":
        return NO_LIMIT
    found = _AMOUNT.fullmatch(wanted)
    if found is None or (found[2] or "").endswith(("kb", "mb", "gb", "tb", "pb")):
        raise InvalidInput(
            f"{text[:40]!r} is no quota. Write a size such as 500GiB or 1.5TiB, `none` for no limit, or `default`.",
            field="quota",
        )
    exponent = "bkmgtp".index((found[2] or "b")[0])
    whole, _, fraction = found[1].partition(".")
    millionths = int(whole + fraction.ljust(6, "0")) << 10 * exponent
    return millionths // 10**6


def in_words(size: int) -> str:
    """`1.5 GiB`: bytes for people."""
    amount, unit = float(size), "B"
    for unit in _UNITS:
        if amount < 1024 or unit == _UNITS[-1]:
            break
        amount /= 1024
    return f"{size} B" if unit == "B" else f"{amount:.1f} {unit}"
