"""Requests of an import and what becomes of the answers: redirects, errors, bounds. Used by hub.py and s3.py.

Every hop of a redirect passes the guard anew. A token goes to the origin it was meant for and nowhere else. What an
upstream says is shown to people cut to a line, without the secrets that it may echo.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import httpx

from freehold.common import clock
from freehold.registry.sources.errors import (
    OutboundRefused,
    SourceBroken,
    SourceChanged,
    SourceGone,
    SourceUnauthorized,
    SourceUnavailable,
)
from freehold.registry.sources.guard import parse_url, port_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from freehold.common.errors import FreeholdError

MOST_REDIRECTS: Final = 5
MOST_WAIT_SECONDS: Final = 3600.0

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRANSIENT = frozenset({408, 425, 429})
_ERROR_BYTES = 64 * 1024
_MESSAGE_CHARACTERS = 300
_DOCUMENT_SECONDS = 120.0
_PACE_SECONDS = 60.0
_PACE_BYTES_PER_S = 1024
_XML_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9.]{1,64})\s*</Code>")
_XML_MESSAGE = re.compile(rb"<Message>([^<]{1,2000})</Message>")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\s]+")


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """An answer that is an error.

    Attributes:
        code: the upstream's machine-readable word (X-Error-Code, S3's Code), or "".
        message: the upstream's words, cut and cleaned, or "".
        retry_after_s: seconds it asked us to wait, at most MOST_WAIT_SECONDS.
    """

    status: int
    code: str
    message: str
    retry_after_s: float | None

    def error(self, what: str) -> FreeholdError:
        """The error for `what` ("the model acme/tiny"), by the status alone."""
        said = f" It says: {self.message}" if self.message else ""
        if self.status in {401, 403}:
            return SourceUnauthorized(f"The source refuses {what} (HTTP {self.status}).{said}")
        if self.status in {404, 410}:
            return SourceGone(f"The source has no {what} (HTTP {self.status}).{said}")
        if self.status in {412, 416}:
            return SourceChanged(f"At the source, {what} is not what it was (HTTP {self.status}). Import again.")
        if self.status in _TRANSIENT or self.status >= 500:
            return SourceUnavailable(
                f"The source cannot give {what} now (HTTP {self.status}).{said}", retry_after_s=self.retry_after_s
            )
        return SourceBroken(f"The source answers HTTP {self.status} when asked for {what}.{said}")


class Exchange:
    """Sends GET requests for one source. `secrets` never appear in a message, wherever they come back from."""

    def __init__(self, client: httpx.Client, *, secrets: tuple[str, ...] = ()) -> None:
        self._client = client
        self._secrets = tuple(secret for secret in secrets if secret)

    def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        authorization: str = "",
        redirects: int = MOST_REDIRECTS,
    ) -> Answer:
        """The last answer after at most `redirects` redirects, whatever its status; close it. The Authorization header
        is dropped for good once scheme, host or port change.

        Raises OutboundRefused where a hop may not be taken, SourceBroken for too many, SourceUnavailable.
        """
        here = parse_url(url)
        hops: list[httpx.Headers] = []
        while True:
            sent = dict(headers or {}) | ({"Authorization": authorization} if authorization else {})
            answer = self._send(here, sent, tuple(hops))
            if answer.status not in _REDIRECTS or not redirects:
                return answer
            with answer:
                there = self._next(here, answer)
            if len(hops) == redirects:
                raise SourceBroken(f"{here.host} redirects more than {redirects} times in a row.")
            if _origin(there) != _origin(here):
                authorization = ""
            hops.append(answer.headers)
            here = there

    def clean(self, text: str) -> str:
        """One short line of what somebody else wrote, without our secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "•••")
        text = _UNPRINTABLE.sub(" ", text).strip()
        return text if len(text) <= _MESSAGE_CHARACTERS else text[: _MESSAGE_CHARACTERS - 1] + "…"

    def _send(self, url: httpx.URL, headers: dict[str, str], hops: tuple[httpx.Headers, ...]) -> Answer:
        try:
            request = self._client.build_request("GET", url, headers=headers)
            response = self._client.send(request, stream=True, auth=None)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise self.unavailable(url.host, error) from error
        return Answer(self, response, hops)

    def _next(self, here: httpx.URL, answer: Answer) -> httpx.URL:
        location = answer.headers.get("Location", "")
        if not location:
            raise SourceBroken(f"{here.host} answers with a redirect that leads nowhere (HTTP {answer.status}).")
        there = parse_url(location, base=here)
        if here.scheme == "https" and there.scheme != "https":
            raise OutboundRefused(f"{here.host} redirects from https to plain http, which could be read by others.")
        return there

    def unavailable(self, host: str, error: Exception) -> SourceUnavailable:
        """For a connection that failed or broke."""
        detail = self.clean(str(error)) or type(error).__name__
        return SourceUnavailable(f"The connection to {host} failed: {detail}. It is worth trying again.")


class Answer:
    """An answer whose body has not been read. Use as a context manager, or close it."""

    def __init__(self, exchange: Exchange, response: httpx.Response, hops: tuple[httpx.Headers, ...]) -> None:
        self._exchange = exchange
        self._response = response
        self.status = response.status_code
        self.headers = response.headers
        self.hops = hops
        """Headers of the redirects before it, in order."""

    @property
    def host(self) -> str:
        """Who answered."""
        return self._response.url.host

    @property
    def url(self) -> httpx.URL:
        """What answered, after redirects."""
        return self._response.url

    def __enter__(self) -> Answer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives the connection up; harmless twice."""
        self._response.close()

    def chunks(self) -> Iterator[bytes]:
        """The body as it comes. Raises SourceUnavailable where it breaks off, stands still or trickles (less than
        1 KiB/s over a minute of waiting; the time the caller takes does not count), SourceBroken where it is
        compressed."""
        encoding = self.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in {"", "identity"}:
            raise SourceBroken(f"{self.host} answers in the encoding {encoding[:20]!r}, though asked for plain bytes.")
        stream, waited, came = self._response.iter_raw(), 0.0, 0
        while True:
            begun = time.monotonic()
            try:
                chunk = next(stream, None)
            except httpx.TransportError as error:
                raise self._exchange.unavailable(self.host, error) from error
            if chunk is None:
                return
            waited, came = waited + time.monotonic() - begun, came + len(chunk)
            if waited >= _PACE_SECONDS:
                if came < waited * _PACE_BYTES_PER_S:
                    raise SourceUnavailable(f"{self.host} sends less than {_PACE_BYTES_PER_S} bytes a second.")
                waited, came = 0.0, 0
            yield chunk

    def document(self, *, most: int) -> bytes:
        """The whole body, at most `most` bytes and two minutes. Raises SourceBroken, SourceUnavailable."""
        deadline = time.monotonic() + _DOCUMENT_SECONDS
        body = bytearray()
        for chunk in self.chunks():
            body += chunk
            if len(body) > most:
                raise SourceBroken(f"{self.host} answers with more than {most} bytes where a list was asked for.")
            if time.monotonic() > deadline:
                raise SourceUnavailable(f"{self.host} took more than {_DOCUMENT_SECONDS:.0f} s to answer.")
        return bytes(body)

    def trouble(self) -> Trouble:
        """What is wrong, for a status that is no success. Reads a little of the body."""
        body = self._beginning()
        code = self.headers.get("X-Error-Code", "") or _found(_XML_CODE, body)
        return Trouble(
            status=self.status,
            code=self._exchange.clean(code),
            message=self._exchange.clean(self.headers.get("X-Error-Message", "") or _words(body)),
            retry_after_s=_retry_after(self.headers.get("Retry-After", "")),
        )

    def _beginning(self) -> bytes:
        body = b""
        try:
            for chunk in self.chunks():
                body += chunk
                if len(body) >= _ERROR_BYTES:
                    break
        except (SourceUnavailable, SourceBroken):
            pass  # the status is what counts
        return body[:_ERROR_BYTES]


def _origin(url: httpx.URL) -> tuple[str, bytes, int]:
    return url.scheme, url.raw_host, port_of(url)


def _words(body: bytes) -> str:
    """What an error's body says: JSON {"error": …} or {"message": …}, or S3's XML. Never a whole HTML page."""
    if body.lstrip()[:1] == b"{":
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            return ""
        for key in ("error", "message"):
            if isinstance(document.get(key), str):
                return str(document[key])
        return ""
    return _found(_XML_MESSAGE, body)


def _found(pattern: re.Pattern[bytes], body: bytes) -> str:
    found = pattern.search(body)
    return found[1].decode("utf-8", "replace") if found else ""


def _retry_after(header: str) -> float | None:
    """Seconds, from either form of Retry-After (RFC 9110, section 10.2.3)."""
    header = header.strip()
    if re.fullmatch(r"[0-9]{1,9}", header):
        seconds = float(header)
    else:
        try:
            moment = parsedate_to_datetime(header)
        except (ValueError, IndexError, OverflowError):
            return None
        if moment.tzinfo is None:
            return None
        seconds = (moment - clock.now()).total_seconds()
    return min(max(seconds, 0.0), MOST_WAIT_SECONDS)
