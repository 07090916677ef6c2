"""One watch: from where it stands to now, in lines of JSON."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tests.fakes.kubernetes.errors import Refusal
from tests.fakes.kubernetes.resources import Resource
from tests.fakes.kubernetes.selectors import Matches
from tests.fakes.kubernetes.storage import Event, Store, Stored


class Watch:
    """What one client watches. Its connection asks for the next lines whenever something changed."""

    def __init__(
        self,
        store: Store,
        resource: Resource,
        namespace: str,
        matches: Matches | None,
        *,
        since: int,
        partial: bool,
    ) -> None:
        self.resource = resource
        self.since = since  # told everything up to here
        self.broken: Refusal | None = None
        self._store = store
        self._namespace = namespace
        self._matches = matches
        self._partial = partial

    def first(self, *, mark_end: bool = False) -> list[bytes]:
        """What is there already, for a watch that begins without a resourceVersion. `mark_end`: the bookmark of
        sendInitialEvents."""
        with self._store.lock:
            self.since = self._store.version
            held = self._store.all(self.resource, self._namespace)
            lines = [self._line("ADDED", each) for each in held if self._wants(each)]
        return [*lines, self.bookmark(initial=True)] if mark_end else lines

    def next(self) -> list[bytes]:
        """What happened since, in the client's view: an object that matches no more is DELETED for it."""
        with self._store.lock:
            if self.broken is not None:
                return [self.error(self.broken)]
            events = self._store.since(self.resource, self.since)
            lines = [line for event in events for line in self._told(event)]
            if events:
                self.since = events[-1].version
            return lines

    def bookmark(self, *, initial: bool = False) -> bytes:
        """How far this watch has come: the version to resume from."""
        with self._store.lock:
            self.since = max(self.since, self._store.version)
            meta: dict[str, object] = {"resourceVersion": str(self.since)}
        if initial:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        kind, version = self.resource.kind, self.resource.api_version
        if self._partial:
            kind, version = "PartialObjectMetadata", "meta.k8s.io/v1"
        event = {"type": "BOOKMARK", "object": {"kind": kind, "apiVersion": version, "metadata": meta}}
        return msgspec.json.encode(event) + b"\n"

    @staticmethod
    def error(refusal: Refusal) -> bytes:
        """An ERROR event: a refusal inside a stream that was answered 200."""
        return msgspec.json.encode({"type": "ERROR", "object": refusal.status}) + b"\n"

    def _wants(self, stored: Stored) -> bool:
        return self._matches is None or self._matches(stored.body)

    def _told(self, event: Event) -> Iterator[bytes]:
        if self._namespace and event.after.body["metadata"].get("namespace") != self._namespace:
            return
        before = event.before is not None and self._wants(event.before)
        after = event.type != "DELETED" and self._wants(event.after)
        if after:
            yield self._line("MODIFIED" if before else "ADDED", event.after)
        elif before:
            yield self._line("DELETED", event.after)

    def _line(self, kind: str, stored: Stored) -> bytes:
        raw = stored.partial if self._partial else stored.full
        return b'{"type":"' + kind.encode() + b'","object":' + raw + b"}\n"
