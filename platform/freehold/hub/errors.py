"""Errors in the shape Hub clients read: JSON, and the headers X-Error-Code and X-Error-Message.

huggingface_hub builds its exceptions from them (utils/_http.py, hf_raise_for_status) and shows header and body.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpResponse, JsonResponse

from freehold.common.errors import FreeholdError, NotAuthenticated, RateLimited, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

REPO_NOT_FOUND = "RepoNotFound"
REVISION_NOT_FOUND = "RevisionNotFound"
ENTRY_NOT_FOUND = "EntryNotFound"

# Any other message on a 401 makes the client speak of a missing repository.
INVALID_CREDENTIALS = "Invalid credentials in Authorization header"


class HubError(Exception):
    """An answer other than success, with the Hub's own code where it has one."""

    def __init__(self, status: int, message: str, *, code: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = dict(headers or {})


class RepoMoved(Exception):
    """The repository has another name now; the door sends the client there."""

    def __init__(self, *, before: str, now: str) -> None:
        super().__init__(f"{before} is now {now}")
        self.before = before
        self.now = now


def response_of(error: HubError | FreeholdError) -> HttpResponse:
    """The answer to a request that ended in `error`."""
    if isinstance(error, HubError):
        return _response(error.status, error.message, error.message, error.code, error.headers)
    if isinstance(error, NotAuthenticated):
        return _response(error.status, error.message, INVALID_CREDENTIALS, "", {})
    again = {"Retry-After": "10"} if isinstance(error, RateLimited | Unavailable) else {}
    return _response(error.status, error.message, error.message, "", again)


def _response(status: int, message: str, header_message: str, code: str, headers: Mapping[str, str]) -> HttpResponse:
    response = JsonResponse({"error": message}, status=status, headers=dict(headers))
    line = " ".join(header_message.encode("ascii", "replace").decode().split())[:1000]
    response["X-Error-Message"] = line.removesuffix(".") if status == 403 else line  # clients add a full stop to a 403
    if code:
        response["X-Error-Code"] = code
    return response
