"""What can go wrong with a source of an import. The job decides by the class whether trying again could help.

FreeholdError
├── OutboundRefused      422  our own rules forbid the address; trying again changes nothing
├── SourceUnauthorized   403  token or key missing, wrong, expired, or without a right
├── SourceGone           404  there is no such repo, revision, bucket or file (any more)
├── SourceChanged        409  it is not what was listed any more: list again
├── SourceBroken         422  it answers what nobody can work with: malformed, too much, an unexpected status
└── SourceUnavailable    503  network, overload, cut connection: try again, after `retry_after_s` where it said so
"""

from __future__ import annotations

from freehold.common.errors import Conflict, NotFound, PermissionDenied, Refused, Unavailable

ALLOW_VARIABLE = "IMPORT_ALLOW"


class OutboundRefused(Refused):
    """This installation does not connect there. The message names the host and what an operator could allow, never
    an address that a name of somebody's internal network resolved to."""

    title = "Address refused"


class SourceUnauthorized(PermissionDenied):
    title = "The source refuses access"


class SourceGone(NotFound):
    title = "Not found at the source"


class SourceChanged(Conflict):
    title = "The source has changed"


class SourceBroken(Refused):
    title = "The source cannot be understood"


class SourceUnavailable(Unavailable):
    """`retry_after_s`: seconds the source asked us to wait, None where it said nothing."""

    title = "The source is unavailable"

    def __init__(self, message: str, *, retry_after_s: float | None = None, field: str | None = None) -> None:
        super().__init__(message, field=field)
        self.retry_after_s = retry_after_s
