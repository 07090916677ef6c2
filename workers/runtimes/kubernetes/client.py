"""One API server over HTTP: the official client's credentials, TLS and connections (account.py); our own paths, retries
and errors.

Objects travel as plain dictionaries: a pass over a thousand endpoints reads tens of thousands of fields it does not
need, and the client's models would validate every one. API: https://kubernetes.io/docs/reference/using-api/api-concepts/.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlencode

import msgspec
import urllib3

from freehold.fleet.kubeconfig import Access
from workers.manifests.kubernetes.names import FIELD_MANAGER
from workers.runtimes.base import RuntimeUnavailable
from workers.runtimes.kubernetes.resources import Resource

if TYPE_CHECKING:
    from workers.runtimes.kubernetes.account import Account

CONNECT_SECONDS: Final = 3.0
READ_SECONDS: Final = 15.0  # between two bytes
WHOLE_SECONDS: Final = 30.0  # of one answer
PAGE_SIZE: Final = 500
METADATA_ONLY: Final = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"
_APPLY: Final = "application/apply-patch+yaml"
_CHUNK: Final = 256 * 1024
_MOST_BYTES: Final = 256 * 1024 * 1024
_TRIES: Final = 3
_LONGEST_PAUSE: Final = 5.0
_BUSY: Final = frozenset({429, 503, 504})

Json = dict[str, Any]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Page:
    """Part of a list, at `resource_version`: one JSON document an object, views into the page. With `first`, the list
    begins, or begins anew: what came before is to be forgotten."""

    items: list[msgspec.Raw]
    resource_version: str
    first: bool


class ApiError(Exception):
    """The server understood the request and refused it.

    Attributes:
        status: HTTP's.
        reason: Kubernetes' word (`NotFound`, `Conflict`, `Invalid`, `Forbidden`, `Expired`, …), or empty.
        details: of its Status object.
        retry_after: seconds it asks for, or None.
    """

    def __init__(
        self, status: int, reason: str, message: str, details: Mapping[str, Any], retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.details = details
        self.retry_after = retry_after


def _accounts() -> ModuleType:
    """account.py with the official client behind it, loaded by whoever first needs it and by nobody else."""
    return importlib.import_module("workers.runtimes.kubernetes.account")


if "KUBERNETES_SERVICE_HOST" in os.environ:
    _accounts()  # in a pod somebody will: loaded before a worker forks, its memory is shared by all children


class Api:
    """Requests to one API server. Safe to use from several threads."""

    def __init__(self, account: Account) -> None:
        self._account = account

    @classmethod
    def of_access(cls, access: Access, *, connections: int = 8) -> Api:
        """With credentials from a checked kubeconfig."""
        account: Account = _accounts().account_of(access, connections=connections)
        return cls(account)

    @classmethod
    def of_this_cluster(cls, *, connections: int = 8) -> Api:
        """With the account of the pod that we are. Raises RuntimeUnavailable outside of a pod."""
        account: Account = _accounts().account_of_this_cluster(connections=connections)
        return cls(account)

    def close(self) -> None:
        """Closes its connections."""
        self._account.close()

    # Requests

    def get(self, path: str, query: Mapping[str, Any] | None = None, *, read_seconds: float = READ_SECONDS) -> Json:
        """One GET. Raises ApiError, RuntimeUnavailable."""
        return _read(self._ask("GET", path, query, read_seconds=read_seconds), Json)

    def text(self, path: str, query: Mapping[str, Any] | None = None) -> str:
        """A GET of plain text: a log. Raises ApiError, RuntimeUnavailable."""
        return self._ask("GET", path, query).decode(errors="replace")

    def post(self, path: str, body: Json) -> Json:
        """One POST, never repeated. Raises ApiError, RuntimeUnavailable."""
        data = self._ask("POST", path, None, msgspec.json.encode(body), "application/json", tries=1)
        return _read(data, Json)

    def list(
        self, resource: Resource, *, selector: str = "", namespace: str = "", fields: str = "", metadata: bool = False
    ) -> Iterator[Json]:
        """Every object of a kind, once. With `metadata`, contents stay where they are. Raises ApiError,
        RuntimeUnavailable."""
        documents: list[msgspec.Raw] = []
        for page in self.pages(resource, selector=selector, namespace=namespace, fields=fields, metadata=metadata):
            if page.first:
                documents.clear()
            documents += page.items
        for document in documents:
            yield _read(document, Json)

    def pages(
        self, resource: Resource, *, selector: str = "", namespace: str = "", fields: str = "", metadata: bool = False
    ) -> Iterator[Page]:
        """Like `list` page by page, with the resource version from which a watch goes on. A list that expires between
        pages begins anew, once, and says so."""
        query = {"limit": PAGE_SIZE, "labelSelector": selector, "fieldSelector": fields}
        accept = METADATA_ONLY if metadata else "application/json"
        token, restarted = "", False
        while True:
            try:
                data = self._ask("GET", resource.path(namespace), {**query, "continue": token}, accept=accept)
            except ApiError as error:
                if error.status != 410 or restarted:
                    raise
                token, restarted = "", True
                continue
            page = _read(data, _Page)
            yield Page(page.items or [], page.metadata.resourceVersion, first=not token)
            token = page.metadata.continue_
            if not token:
                return

    def apply(self, resource: Resource, manifest: Mapping[str, Any], *, force: bool = False) -> Json:
        """Server-side apply: creates the object, or takes the fields of `manifest` as ours. Raises ApiError (409
        where another manager has set a field otherwise, unless forced), RuntimeUnavailable."""
        metadata = manifest["metadata"]
        path = resource.path(metadata.get("namespace", ""), metadata["name"])
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict", "force": "true" if force else "false"}
        return _read(self._ask("PATCH", path, query, msgspec.json.encode(manifest), _APPLY), Json)

    def merge(self, path: str, patch: Json) -> Json:
        """A JSON merge patch (RFC 7386). Raises ApiError, RuntimeUnavailable."""
        data = self._ask("PATCH", path, None, msgspec.json.encode(patch), "application/merge-patch+json")
        return _read(data, Json)

    def delete(self, resource: Resource, namespace: str, name: str, *, uid: str, foreground: bool = False) -> None:
        """Deletes this very object; one that is gone, or was replaced by another, is no error. With `foreground` it
        stays until what it owns is gone. Raises ApiError, RuntimeUnavailable."""
        body = {
            "preconditions": {"uid": uid},
            "propagationPolicy": "Foreground" if foreground else "Background",
        }
        try:
            self._ask("DELETE", resource.path(namespace, name), None, msgspec.json.encode(body), "application/json")
        except ApiError as error:
            gone = error.status == 404 or (error.status == 409 and "uid" in error.message.lower())
            if not gone:
                raise

    def watch(
        self, resource: Resource, *, selector: str, resource_version: str, seconds: int, silence_seconds: float
    ) -> urllib3.BaseHTTPResponse:
        """An open watch; its body is one JSON document a line. The socket times out after `silence_seconds` without
        a byte: bookmarks come more often. Raises ApiError (410 where the version is too old), RuntimeUnavailable."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": seconds,
            "labelSelector": selector,
        }
        return self._open("GET", resource.path(), query, None, None, "application/json", silence_seconds)

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        content_type: str | None = None,
        *,
        accept: str = "application/json",
        tries: int = _TRIES,
        read_seconds: float = READ_SECONDS,
    ) -> bytes:
        """Whole answers. A server that is busy is asked again, as long as it wishes within reason."""
        for left in range(tries - 1, -1, -1):
            try:
                data: bytes = self._open(method, path, query, body, content_type, accept, read_seconds).data
            except ApiError as error:
                if error.status not in _BUSY or not left:
                    raise
                time.sleep(min(error.retry_after if error.retry_after is not None else 1.0, _LONGEST_PAUSE))
            except urllib3.exceptions.HTTPError as error:  # the body broke off
                if not left:
                    raise RuntimeUnavailable(f"The cluster broke off its answer: {error}") from error
            else:
                return data
        raise AssertionError("the last try returns or raises")

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: bytes | None,
        content_type: str | None,
        accept: str,
        read_seconds: float,
    ) -> urllib3.BaseHTTPResponse:
        words = {name: value for name, value in (query or {}).items() if value not in {"", None}}
        url = self._account.host + path + ("?" + urlencode(words) if words else "")
        headers = {"Accept": accept, "User-Agent": FIELD_MANAGER}
        if authorization := self._account.authorization():
            headers["Authorization"] = authorization
        if content_type is not None:
            headers["Content-Type"] = content_type
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=read_seconds)
        for again in (True, False):
            try:
                response = self._account.pool.request(
                    method, url, body=body, headers=headers, timeout=timeout, preload_content=False, redirect=False
                )
                break
            except urllib3.exceptions.ProtocolError as error:
                # A connection that was kept and had died meanwhile. All our requests may be repeated.
                if not again:
                    raise RuntimeUnavailable(f"The cluster closed the connection: {error}") from error
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise RuntimeUnavailable(f"The cluster cannot be reached: {_words(error)}") from error
        if response.status >= 300:
            raise _error(response)
        return response


def _whole(response: urllib3.BaseHTTPResponse) -> bytes:
    """The body, within bounds of time and size: a server that drips is one that does not answer."""
    give_up_at = time.monotonic() + WHOLE_SECONDS
    chunks, size = [], 0
    for chunk in response.stream(_CHUNK, decode_content=True):
        size += len(chunk)
        if time.monotonic() > give_up_at or size > _MOST_BYTES:
            response.close()
            raise RuntimeUnavailable("The cluster answers too slowly, or without end.")
        chunks.append(chunk)
    response.release_conn()
    return b"".join(chunks)


class _ListMeta(msgspec.Struct):
    continue_: str = msgspec.field(default="", name="continue")
    resourceVersion: str = ""  # noqa: N815 - Kubernetes' word


class _Page(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


def _read(data: bytes | msgspec.Raw, type: type[_T]) -> _T:  # noqa: A002 - as in msgspec
    try:
        return msgspec.json.decode(data, type=type)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # Something else listens there, or stands in between: a proxy, a login page.
        raise RuntimeUnavailable(f"What answers is no Kubernetes API: {error}") from error


def _error(response: urllib3.BaseHTTPResponse) -> ApiError:
    """The server's Status object, or its plain text: unknown paths are answered so."""
    data = response.data
    try:
        status = msgspec.json.decode(data, type=Json)
    except (msgspec.DecodeError, UnicodeDecodeError):
        status = {"message": data.decode(errors="replace").strip()[:500]}
    after = response.headers.get("Retry-After", "")
    return ApiError(
        status=response.status,
        reason=str(status.get("reason") or ""),
        message=str(status.get("message") or f"HTTP {response.status}"),
        details=status.get("details") or {},
        retry_after=float(after) if after.isdigit() else None,
    )


def _words(error: BaseException) -> str:
    """urllib3 says where in our memory the connection lay; people need the cause."""
    reason = getattr(error, "reason", None) or error
    text = str(reason)
    return text.split(">: ", 1)[-1] if ">: " in text else text
