"""Idempotency-Key: a POST that is sent again is answered again, and not done again.

The rules are Stripe's: a key has up to 255 characters and is kept for 24 hours; once the work has begun, the first
answer is replayed whatever it was, a 500 included; another body under the same key is an error; two at once: the second
is told to wait. What is refused before the work begins (bad input, missing rights, too many requests) is not kept.

The answer is written in the transaction of the work itself, so a crash leaves both or neither; "in flight" is a lock of
that transaction, which a crash releases.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from django.db import InterfaceError, OperationalError, connection, transaction
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response

from freehold.api import problem
from freehold.api.authentication import Principal, principal_of
from freehold.api.models import IdempotencyRecord
from freehold.common import clock
from freehold.common.errors import Conflict, InvalidInput, Refused
from freehold.db.rls import system_scope, tenant_scope

if TYPE_CHECKING:
    from rest_framework.request import Request

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
MAX_LENGTH = 255
KEPT = timedelta(hours=24)
PARAMETER = OpenApiParameter(
    HEADER,
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description=f"Up to {MAX_LENGTH} characters. Sent again within 24 hours, the request gets the first answer.",
)

_NOT_KEPT: Final = frozenset({400, 401, 403, 422, 429, 503})


class KeyInUse(Conflict):
    """The first request with this key has not been answered yet."""

    code = "idempotency_key_in_use"


class KeyReused(Refused):
    """The key stands for another request."""

    code = "idempotency_key_reused"


def once(request: Request, perform: Callable[[], Response]) -> Response:
    """Runs `perform` in the tenant's scope, or replays its answer from before.

    Call it with validated input: what `perform` does counts as begun. Raises InvalidInput, KeyInUse, KeyReused, and
    what `perform` raises where that is not kept.
    """
    principal = principal_of(request)
    key = request.headers.get(HEADER)
    if key is None:
        with tenant_scope(principal.tenant.pk):
            return perform()
    if not 1 <= len(key) <= MAX_LENGTH:
        raise InvalidInput(f"An {HEADER} has 1 to {MAX_LENGTH} characters.", field=HEADER)
    fingerprint = _fingerprint(request, principal)
    with tenant_scope(principal.tenant.pk):
        if not _lock(principal, key):
            raise KeyInUse(f"The first request with this {HEADER} is still running. Send it again in a moment.")
        record = _recorded(principal, key)
        if record is not None:
            if record.fingerprint != fingerprint:
                raise KeyReused(f"This {HEADER} was used for another request. Take a new one.", field=HEADER)
            return _replay(record)
        response = _performed(request, perform)
        IdempotencyRecord.objects.create(
            tenant=principal.tenant,
            key=key,
            fingerprint=fingerprint,
            status=response.status_code,
            location=response.get("Location", ""),
            body=JSONRenderer().render(response.data).decode(),
        )
    return response


def records_purge(*, now: datetime | None = None) -> int:
    """Deletes answers nobody can ask for any more; returns how many. Run by a periodic task."""
    with system_scope("workers drop every tenant's outdated answers"):
        deleted, _ = IdempotencyRecord.objects.filter(created_at__lt=(now or clock.now()) - KEPT).delete()
    return deleted


def _fingerprint(request: Request, principal: Principal) -> str:
    """The caller is a part of it: another key of the tenant, with fewer rights, must not be shown the answer."""
    content = [principal.actor.id, request.method, request.path, request.data]
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _lock(principal: Principal, key: str) -> bool:
    """Held until the transaction ends, however it ends."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", [f"idempotency:{principal.tenant.pk}:{key}"]
        )
        return bool(cursor.fetchone()[0])


def _recorded(principal: Principal, key: str) -> IdempotencyRecord | None:
    records = IdempotencyRecord.objects.filter(tenant=principal.tenant, key=key)
    records.filter(created_at__lt=clock.now() - KEPT).delete()
    return records.first()


def _performed(request: Request, perform: Callable[[], Response]) -> Response:
    """The answer to keep; a failure's is that of its error, and its own writes are undone."""
    try:
        with transaction.atomic():
            return perform()
    except (OperationalError, InterfaceError):
        raise  # the database itself is in trouble: nothing can be kept, and trying again is right
    except Exception as error:  # any failure of work that had begun is kept, so that a retry cannot do it twice
        if problem.problem_of(error).status in _NOT_KEPT:
            raise
        return problem.exception_handler(error, {"request": request})


def _replay(record: IdempotencyRecord) -> Response:
    headers = {REPLAYED: "true"}
    if record.location:
        headers["Location"] = record.location
    content_type = problem.CONTENT_TYPE if record.status >= 400 else None
    return Response(json.loads(record.body), status=record.status, headers=headers, content_type=content_type)
