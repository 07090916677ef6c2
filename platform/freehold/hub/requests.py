"""What every view of the hub is given: the request, its caller, the decoded parts of its path, its bounded body."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from freehold.common.errors import InvalidInput
from freehold.hub.errors import HubError
from freehold.registry.names import check_text

if TYPE_CHECKING:
    from django.http import HttpRequest

    from freehold.hub.identity import Caller

BODY_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class HubRequest:
    """One request. `parts` are the named parts of its path, percent-decoded one by one."""

    http: HttpRequest
    caller: Caller | None
    parts: dict[str, str]

    def part(self, name: str) -> str:
        """A part of the path; empty where the address has none of that name."""
        return self.parts.get(name) or ""

    @property
    def origin(self) -> str:
        """`https://host` as the client called it; links in answers begin with it."""
        return f"{self.http.scheme}://{self.http.get_host()}"

    def flag(self, name: str) -> bool:
        """A query parameter as a boolean."""
        return self.http.GET.get(name, "").lower() in {"1", "true"}

    def json(self) -> dict[str, Any]:
        """The body as a JSON object. Raises HubError 413, InvalidInput."""
        try:
            document = json.loads(self._body() or b"{}")
        except (ValueError, RecursionError):
            raise InvalidInput("The request's body is not JSON.") from None
        if not isinstance(document, dict):
            raise InvalidInput("The request's body is not a JSON object.")
        return document

    def form_or_json(self) -> dict[str, Any]:
        """The body as JSON, or a form whose fields become lists."""
        if self.http.content_type != "application/x-www-form-urlencoded":
            return self.json()
        try:
            return dict(parse_qs(self._body().decode(), max_num_fields=20_000))
        except ValueError:
            raise InvalidInput("The request's form cannot be read.") from None

    def _body(self) -> bytes:
        # Not request.body: that refuses what is above DATA_UPLOAD_MAX_MEMORY_SIZE (2.5 MB).
        body = self.http.read(BODY_BYTES + 1)
        if len(body) > BODY_BYTES:
            raise HubError(413, f"The request's body is larger than {BODY_BYTES} bytes.")
        return bytes(body)


def text_of(document: dict[str, Any], name: str, default: str = "") -> str:
    """A text field of a JSON body. Raises InvalidInput for anything else, and for text that no database holds."""
    value = document.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise InvalidInput(f"{name} must be text.", field=name)
    return check_text(value, field=name)


def list_of(document: dict[str, Any], name: str, *, most: int) -> list[Any]:
    """A list field of a JSON body with at most `most` items. Raises InvalidInput."""
    value = document.get(name)
    if not isinstance(value, list) or len(value) > most:
        raise InvalidInput(f"{name} must be a list of at most {most} items.", field=name)
    return value
