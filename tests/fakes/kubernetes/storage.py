"""Where objects are kept: every kind under one growing resourceVersion, with the history that watches resume from.

Objects are never changed in place: a write puts a new one. What was once serialised is kept, because lists of
thousands are read far more often than they change.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property
from typing import Any

import msgspec

from tests.fakes.kubernetes.resources import Resource

Json = dict[str, Any]
Key = tuple[str, str]  # namespace ("" for what has none), name

_SNAPSHOTS = 200  # lists that are being read page by page
_HISTORY = 20_000  # events kept for a kind


class Stored:
    """An object as of one resourceVersion. `body` has neither kind nor apiVersion, and nobody may change it."""

    def __init__(self, resource: Resource, body: Json) -> None:
        self.resource = resource
        self.body = body

    @cached_property
    def item(self) -> bytes:
        """Serialised as lists hold it."""
        return msgspec.json.encode(self.body)

    @cached_property
    def full(self) -> bytes:
        """Serialised with kind and apiVersion."""
        head = f'{{"kind":"{self.resource.kind}","apiVersion":"{self.resource.api_version}",'
        return head.encode() + self.item[1:]

    @cached_property
    def partial(self) -> bytes:
        """Its metadata alone, as a PartialObjectMetadata."""
        meta = msgspec.json.encode(self.body["metadata"])
        return b'{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":' + meta + b"}"

    @property
    def version(self) -> int:
        """Its resourceVersion."""
        return int(self.body["metadata"]["resourceVersion"])


class Event:
    """A change: what was, what is. `type` as a watch without selectors tells it."""

    __slots__ = ("after", "before", "type", "version")

    def __init__(self, version: int, kind: str, before: Stored | None, after: Stored) -> None:
        self.version = version
        self.type = kind
        self.before = before
        self.after = after


class Store:
    """Objects, versions, history. Every call takes the lock; hold it yourself around what must be one step."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.version = 1
        self.oldest = 0  # events up to and including this version are forgotten
        self.on_change: list[Callable[[Resource], None]] = []
        self._objects: dict[Resource, dict[Key, Stored]] = {}
        self._history: dict[Resource, list[Event]] = {}
        self._snapshots: OrderedDict[tuple[str, int], list[Stored]] = OrderedDict()
        self._owned: dict[str, set[tuple[Resource, Key]]] = {}

    def get(self, resource: Resource, namespace: str, name: str) -> Stored | None:
        """One object."""
        with self.lock:
            return self._objects.get(resource, {}).get((namespace, name))

    def all(self, resource: Resource, namespace: str = "") -> list[Stored]:
        """All of a kind, or of a kind in a namespace, in the order of their names."""
        with self.lock:
            held = self._objects.get(resource, {})
            keys = sorted(held if not namespace else [key for key in held if key[0] == namespace])
            return [held[key] for key in keys]

    def put(self, resource: Resource, body: Json) -> Stored:
        """Keeps an object under the next resourceVersion."""
        with self.lock:
            self.version += 1
            meta = body["metadata"]
            meta["resourceVersion"] = str(self.version)
            key = (meta.get("namespace", ""), meta["name"])
            held = self._objects.setdefault(resource, {})
            before, after = held.get(key), Stored(resource, body)
            held[key] = after
            self._index(resource, key, before, after)
            self._tell(resource, Event(self.version, "MODIFIED" if before else "ADDED", before, after))
            return after

    def remove(self, resource: Resource, namespace: str, name: str) -> Stored | None:
        """Forgets an object. The last event carries it with the version of its end."""
        with self.lock:
            before = self._objects.get(resource, {}).pop((namespace, name), None)
            if before is None:
                return None
            self.version += 1
            meta = {**before.body["metadata"], "resourceVersion": str(self.version)}
            after = Stored(resource, {**before.body, "metadata": meta})
            self._index(resource, (namespace, name), before, None)
            self._tell(resource, Event(self.version, "DELETED", before, after))
            return after

    def owned_by(self, uid: str) -> list[Stored]:
        """Everything whose ownerReferences name that object."""
        with self.lock:
            found = sorted(self._owned.get(uid, ()), key=lambda each: (each[0].plural, each[1]))
            return [self._objects[resource][key] for resource, key in found]

    def owners(self) -> list[str]:
        """The uids that some object names as its owner."""
        with self.lock:
            return [uid for uid, owned in self._owned.items() if owned]

    def _index(self, resource: Resource, key: Key, before: Stored | None, after: Stored | None) -> None:
        old = before.body["metadata"].get("ownerReferences", ()) if before else ()
        new = after.body["metadata"].get("ownerReferences", ()) if after else ()
        if old == new:
            return
        for reference in old:
            self._owned[reference["uid"]].discard((resource, key))
        for reference in new:
            self._owned.setdefault(reference["uid"], set()).add((resource, key))

    def _tell(self, resource: Resource, event: Event) -> None:
        history = self._history.setdefault(resource, [])
        history.append(event)
        if len(history) > 2 * _HISTORY:
            self.oldest = max(self.oldest, history[_HISTORY - 1].version)
            del history[:_HISTORY]
        for listener in self.on_change:
            listener(resource)

    def since(self, resource: Resource, version: int) -> list[Event]:
        """What happened to a kind after that version."""
        with self.lock:
            history = self._history.get(resource, [])
            return history[bisect_right(history, version, key=lambda each: each.version) :]

    def compact(self) -> int:
        """Forgets all history: watches and pages from before now are answered 410. Gives the oldest version left."""
        with self.lock:
            self.version += 1
            self.oldest = self.version
            self._history.clear()
            self._snapshots.clear()
            return self.oldest

    def snapshot(self, scope: str, version: int, items: list[Stored]) -> None:
        """Keeps a list for its next pages."""
        with self.lock:
            self._snapshots[(scope, version)] = items
            while len(self._snapshots) > _SNAPSHOTS:
                self._snapshots.popitem(last=False)

    def snapshot_of(self, scope: str, version: int) -> list[Stored] | None:
        """The list a page goes on with; None when it was forgotten."""
        with self.lock:
            return self._snapshots.get((scope, version))
