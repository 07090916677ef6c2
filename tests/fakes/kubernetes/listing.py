"""Lists: selectors, pages, and the versions they are told at."""

from __future__ import annotations

import base64
import json
from typing import Any

from tests.fakes.kubernetes import selectors
from tests.fakes.kubernetes.errors import Refusal, bad_request, continue_expired
from tests.fakes.kubernetes.resources import Resource
from tests.fakes.kubernetes.storage import Store, Stored

Json = dict[str, Any]


def write(store: Store, resource: Resource, namespace: str, query: dict[str, str], *, partial: bool) -> bytes:
    """The answer to GET of a collection. Raises 400 for what cannot be read, 410 for a page too late."""
    scope = f"{resource.qualified}/{namespace}"
    token, limit = query.get("continue", ""), int(query.get("limit") or 0)
    with store.lock:
        version = store.version
        if token:
            version, start = _read_token(token)
            held = store.snapshot_of(scope, version)
            if held is None:
                raise continue_expired(_token(store.version, start))
            held = [each for each in held if _place(each) >= start]
        else:
            _check_version(store, query)
            held = store.all(resource, namespace)
    matches = selectors.of_query(query.get("labelSelector", ""), query.get("fieldSelector", ""))
    chosen = held if matches is None else [each for each in held if matches(each.body)]
    meta: Json = {"resourceVersion": str(version)}
    if limit and len(chosen) > limit:
        store.snapshot(scope, version, held)
        meta["continue"] = _token(version, _place(chosen[limit - 1]) + "\0")
        if matches is None:
            meta["remainingItemCount"] = len(chosen) - limit
        chosen = chosen[:limit]
    items = b",".join([each.partial for each in chosen] if partial else [each.item for each in chosen])
    kind, api_version = f"{resource.kind}List", resource.api_version
    if partial:
        kind, api_version = "PartialObjectMetadataList", "meta.k8s.io/v1"
    head = json.dumps({"kind": kind, "apiVersion": api_version, "metadata": meta}, separators=(",", ":"))
    return head[:-1].encode() + b',"items":[' + items + b"]}"


def _place(stored: Stored) -> str:
    meta = stored.body["metadata"]
    return f"{meta.get('namespace', '')}/{meta['name']}"


def _check_version(store: Store, query: dict[str, str]) -> None:
    asked = query.get("resourceVersion", "")
    if not asked or asked == "0":
        return
    if not asked.isdigit():
        raise bad_request(
            f'resourceVersion: Invalid value: "{asked}": strconv.ParseUint: parsing "{asked}": invalid syntax'
        )
    if int(asked) > store.version:
        words = f"Timeout: Too large resource version: {asked}, current: {store.version}"
        cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
        raise Refusal(504, "Timeout", words, {"causes": [cause], "retryAfterSeconds": 1})
    if query.get("resourceVersionMatch") == "Exact" and int(asked) != store.version:
        raise Refusal(410, "Expired", "The resourceVersion for the provided list is too old.")


def _token(version: int, start: str) -> str:
    raw = json.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": start}, separators=(",", ":"))
    return base64.urlsafe_b64encode(raw.encode()).decode().rstrip("=")


def _read_token(token: str) -> tuple[int, str]:
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except ValueError as error:
        raise bad_request(f"invalid continue token: continue key is not valid: {error}") from error
    try:
        read = json.loads(raw.decode("latin-1"))
        return int(read["rv"]), str(read["start"])
    except (ValueError, KeyError, TypeError):
        words = f"invalid character {_quoted(raw[:1])} looking for beginning of value"
        raise bad_request(f"invalid continue token: continue key is not valid: {words}") from None


def _quoted(first: bytes) -> str:
    """A byte as Go quotes a character."""
    code = first[0] if first else 0
    return f"'{chr(code)}'" if 0x20 <= code < 0x7F else f"'\\u{code:04x}'"
