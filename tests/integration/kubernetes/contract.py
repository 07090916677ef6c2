"""Replays the recorded exchanges against the emulator, and tells where the answers differ."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3

from tests.fakes.kubernetes import Emulator
from tests.fakes.kubernetes.resources import REPLICASETS

Json = dict[str, Any]

RECORDINGS = Path(__file__).parent / "recordings"
TOKEN = "a-token-of-the-tests"

_HASHES = {  # the recorded pod-template-hashes, by the Deployment and the revision they stand for
    "6cb94b5679": "ep-1/1",
    "6769c574d5": "ep-1/2",
    "6cb776f56c": "ep-big/1",
    "6998994b68": "ep-bad/1",
    "8c6689f69": "ep-16/1",
}
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_VOLATILE = ("resourceVersion", "continue", "time", "storageVersionHash")


@dataclass(slots=True)
class Exchange:
    """A recorded request and its answers: the real one and the emulator's."""

    name: str
    request: Json
    recorded: Json
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    events: list[Json] = field(default_factory=list)


def exchanges() -> list[Exchange]:
    """All recordings, in order."""
    found = []
    for path in sorted(RECORDINGS.glob("*.json")):
        read = json.loads(path.read_text())
        found.append(Exchange(path.stem, read["request"], read["response"]))
    return found


class Client:
    """Raw HTTP, as the recordings were made."""

    def __init__(self, api: Emulator) -> None:
        self._api = api
        self._http = urllib3.PoolManager(retries=False)

    def send(
        self,
        method: str,
        path: str,
        query: Json | None = None,
        body: Any = None,
        content_type: str | None = None,
        *,
        anonymous: bool = False,
        stream: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        """One request."""
        headers = {"User-Agent": "python-requests/2.32"}
        if not anonymous:
            headers["Authorization"] = f"Bearer {TOKEN}"
        if content_type:
            headers["Content-Type"] = content_type
        url = self._api.url + path + (f"?{urlencode(query)}" if query else "")
        sent = None if body is None else json.dumps(body).encode()
        return self._http.request(method, url, body=sent, headers=headers, preload_content=not stream, timeout=20)

    def apply(self, path: str, body: Json) -> None:
        """A server-side apply that must succeed."""
        query = {"fieldManager": "freehold"}
        answer = self.send("PATCH", path, query, body, "application/apply-patch+yaml")
        assert answer.status in (200, 201), answer.data

    def watch(self, exchange: Exchange, query: Json) -> Iterator[Json]:
        """The events of a watch, until the server ends it."""
        answer = self.send("GET", exchange.request["path"], query, stream=True)
        exchange.status, exchange.headers = answer.status, dict(answer.headers)
        rest = b""
        for piece in answer.stream():
            *lines, rest = (rest + piece).split(b"\n")
            yield from (json.loads(line) for line in lines)


def perform(client: Client, exchange: Exchange, *, path: str | None = None, query: Json | None = None) -> None:
    """Sends a recorded request (to another path or with another query where those held names of the moment)."""
    request = exchange.request
    answer = client.send(
        request["method"],
        path or request["path"],
        query or request["query"],
        request["body"],
        request["content_type"],
        anonymous=request["authenticated_as"] == "nobody",
    )
    exchange.status, exchange.headers = answer.status, dict(answer.headers)
    text = answer.data.decode()
    exchange.body = json.loads(text) if answer.headers["Content-Type"] == "application/json" else text


def perform_watch(client: Client, exchange: Exchange, query: Json, during: Any = None) -> None:
    """Sends a recorded watch; `during` runs in a thread of its own while it is open."""
    stream = client.watch(exchange, query)
    worker = threading.Thread(target=during) if during else None
    if worker:
        worker.start()
    exchange.events = list(stream)
    if worker:
        worker.join()


def hashes_of(api: Emulator) -> dict[str, str]:
    """The emulator's pod-template-hashes, by what they stand for."""
    found = {}
    with api.store.lock:
        for stored in api.store.all(REPLICASETS):
            meta = stored.body["metadata"]
            revision = meta["annotations"]["deployment.kubernetes.io/revision"]
            found[meta["labels"]["pod-template-hash"]] = f"{meta['ownerReferences'][0]['name']}/{revision}"
    return found


def plain(value: Any, hashes: dict[str, str], key: str = "") -> Any:
    """A value without what differs from run to run: ids, times, versions, the random parts of names."""
    if isinstance(value, dict):
        result = {}
        for name, inner in value.items():
            if name in _VOLATILE:
                continue
            result[_text(name, hashes)] = plain(inner, hashes, name)
        return result
    if isinstance(value, list):
        items = [plain(each, hashes) for each in value]
        return (
            sorted(items, key=_order)
            if key in {"items", "managedFields", "resources", "groups", "endpoints"}
            else items
        )
    return _text(value, hashes) if isinstance(value, str) else value


def _order(item: Any) -> str:
    meta = item.get("metadata", {})
    about = item.get("involvedObject", {}).get("kind", "")
    deleting = "deletionTimestamp" in meta
    return json.dumps(
        [item.get("addresses"), item.get("manager"), item.get("subresource"), about, meta.get("name"), deleting, item]
        if meta or "manager" in item or "addresses" in item
        else item.get("name", item),
        sort_keys=True,
    )


def _text(value: str, hashes: dict[str, str]) -> str:
    value = _TIME.sub("<time>", _UUID.sub("<uid>", value))
    for digest, role in hashes.items():
        value = re.sub(rf"{digest}(-[a-z0-9]{{5}})?(\.[0-9a-f]+)?", partial(_role, role), value)
    value = re.sub(r"^(ep-\d+)-[a-z0-9]{5}$", r"\1-<random>", value)  # an EndpointSlice's name
    return re.sub(r"^(ep-\d+)\.[0-9a-f]{16}$", r"\1.<moment>", value)  # an Event's


def _role(role: str, found: re.Match[str]) -> str:
    return f"<{role}>" + ("-<random>" if found[1] else "") + (".<moment>" if found[2] else "")


def differences(recorded: Any, emulated: Any, at: str = "") -> list[str]:
    """Where two plain values differ, one line each."""
    if isinstance(recorded, dict) and isinstance(emulated, dict):
        lines = []
        for name in sorted({**recorded, **emulated}):
            here = f"{at}.{name}"
            if name not in emulated:
                lines.append(f"{here}: only recorded: {recorded[name]!r}")
            elif name not in recorded:
                lines.append(f"{here}: only emulated: {emulated[name]!r}")
            else:
                lines += differences(recorded[name], emulated[name], here)
        return lines
    if isinstance(recorded, list) and isinstance(emulated, list) and len(recorded) == len(emulated):
        pairs = enumerate(zip(recorded, emulated, strict=True))
        return [line for index, (left, right) in pairs for line in differences(left, right, f"{at}[{index}]")]
    return [] if recorded == emulated else [f"{at}: recorded {recorded!r}, emulated {emulated!r}"]


def recorded_hashes() -> dict[str, str]:
    """The recordings' pod-template-hashes, by what they stand for."""
    return dict(_HASHES)
