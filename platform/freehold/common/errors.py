"""The one tree of errors. Every door (REST, hub, gateway, console) turns these into its own shape.

    FreeholdError                 500  internal
    ├── InvalidInput              400  invalid_input       names the field and the remedy
    ├── NotAuthenticated          401  not_authenticated
    ├── PaymentRequired           402  payment_required
    ├── PermissionDenied          403  permission_denied
    ├── NotFound                  404  not_found           also for what belongs to another tenant
    ├── Conflict                  409  conflict
    ├── Refused                   422  refused             well-formed, but we will not take it
    ├── RateLimited               429  rate_limited
    └── Unavailable               503  unavailable         try again later

A message is written for the person who reads it: what is wrong and what to do next. It never holds a secret.
"""

from __future__ import annotations

from typing import ClassVar


class FreeholdError(Exception):
    """Root of the tree.

    Attributes:
        status: HTTP status that a door answers with.
        code: stable, machine-readable word; customers switch on it.
        title: the same for people, without details.
        message: what is wrong and what to do.
        field: name of the input at fault, where there is one.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class InvalidInput(FreeholdError):
    status, code, title = 400, "invalid_input", "Invalid input"


class NotAuthenticated(FreeholdError):
    status, code, title = 401, "not_authenticated", "Not authenticated"


class PaymentRequired(FreeholdError):
    status, code, title = 402, "payment_required", "Payment required"


class PermissionDenied(FreeholdError):
    status, code, title = 403, "permission_denied", "Permission denied"


class NotFound(FreeholdError):
    status, code, title = 404, "not_found", "Not found"


class Conflict(FreeholdError):
    status, code, title = 409, "conflict", "Conflict"


class Refused(FreeholdError):
    """`field` names the file or argument that is refused."""

    status, code, title = 422, "refused", "Refused"


class RateLimited(FreeholdError):
    status, code, title = 429, "rate_limited", "Too many requests"


class Unavailable(FreeholdError):
    status, code, title = 503, "unavailable", "Unavailable"
