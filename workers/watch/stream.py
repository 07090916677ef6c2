"""One kind of one cluster, watched: list, then watch from there, and begin anew where the server has forgotten.

https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes. Bookmarks keep the
version fresh on a quiet cluster; the socket times out where not even those come; 410 (as an answer, or as an event in
a stream that began well) means list again. What changed meanwhile is found by comparing.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any, Final

import msgspec
import urllib3

from freehold.common.logging import get_logger
from workers.runtimes.base import RuntimeUnavailable
from workers.runtimes.kubernetes.client import Api, ApiError, Json
from workers.runtimes.kubernetes.resources import Resource

log = get_logger(__name__)

WATCH_SECONDS: Final = (240, 300)  # the server ends it then; random, so that streams do not all begin together
SILENCE_SECONDS: Final = 90.0  # a bookmark comes about every minute
STALLED_SECONDS: Final = 200.0  # longer than all timeouts together: the thread hangs
_BRIEF: Final = 1.0  # a watch that ends sooner is asked for again after a pause
_PAUSE_FIRST: Final = 1.0
_PAUSE_MOST: Final = 30.0

# What of an object matters to its endpoint: (endpoint, anything that compares), or None for what is of no interest.
Look = Callable[[Json], tuple[str, Hashable] | None]
Known = dict[str, tuple[str, Hashable]]  # uid → what `Look` said


class Expired(Exception):
    """The server no longer knows the version from which we wanted to go on."""


class Stream:
    """A thread that follows one kind. `take` returns the endpoints of which something changed since it was last asked.

    Attributes:
        alive_at: monotonic time of the last sign of life.
        synced: a list has been read; from then on changes are told.
    """

    def __init__(
        self,
        api: Api,
        resource: Resource,
        *,
        selector: str,
        look: Look,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._api = api
        self._resource = resource
        self._selector = selector
        self._look = look
        self._silence_seconds = silence_seconds
        self._known: Known = {}
        self._version = ""
        self._changed: set[str] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._response: urllib3.BaseHTTPResponse | None = None
        self._thread = threading.Thread(target=self._run, name=f"watch {resource.plural}", daemon=True)
        self.alive_at = time.monotonic()
        self.synced = False

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends soon; does not wait."""
        self._stop.set()
        response = self._response
        if response is not None:
            with suppress(OSError, ValueError, RuntimeError):  # it has ended meanwhile
                response.shutdown()  # unlike close, this does not wait for whoever reads

    def replacement(self) -> Stream:
        """The same again for one that hangs, not begun yet. It knows what this one knew, so that what has changed
        meanwhile is told."""
        fresh = Stream(
            self._api,
            self._resource,
            selector=self._selector,
            look=self._look,
            silence_seconds=self._silence_seconds,
        )
        with self._lock:
            fresh._known, fresh._changed, fresh.synced = dict(self._known), set(self._changed), self.synced
        return fresh

    @property
    def stalled(self) -> bool:
        """Whether the thread hangs, or has died."""
        return not self._thread.is_alive() or time.monotonic() - self.alive_at > STALLED_SECONDS

    def take(self) -> set[str]:
        """Endpoints of which something changed."""
        with self._lock:
            changed, self._changed = self._changed, set()
        return changed

    def objects(self) -> list[tuple[str, Hashable]]:
        """What is known now."""
        with self._lock:
            return list(self._known.values())

    # The thread

    def _run(self) -> None:
        pause = _PAUSE_FIRST
        while not self._stop.is_set():
            began = self.alive_at = time.monotonic()
            listed = not self._version
            try:
                if listed:
                    self._list()
                self._watch()
                if time.monotonic() - began > _BRIEF:
                    pause = _PAUSE_FIRST
                    continue  # it ended as agreed
            except Expired:
                self._version = ""
                if not listed:
                    continue  # a server that forgets what it has only just said is given time
            except (RuntimeUnavailable, ApiError) as error:
                if self._stop.is_set():
                    return
                log.warning("watch_interrupted", kind=self._resource.kind, error=str(error))
                if isinstance(error, ApiError) and error.retry_after is not None:
                    pause = max(pause, error.retry_after)
            except Exception:  # an object that cannot be read, or whatever it is: logged, and begun anew
                log.exception("watch_failed", kind=self._resource.kind)
                self._version = ""
            if time.monotonic() - began > _PAUSE_MOST:
                pause = _PAUSE_FIRST
            self._stop.wait(pause * random.uniform(0.8, 1.2))  # noqa: S311 - spreads load, guards nothing
            pause = min(pause * 2, _PAUSE_MOST)

    def _list(self) -> None:
        found: Known = {}
        version = ""
        for page in self._api.pages(self._resource, selector=self._selector):
            self.alive_at = time.monotonic()
            if page.first:
                found.clear()
            version = page.resource_version
            for document in page.items:
                item = msgspec.json.decode(document)
                seen = self._look(item)
                if seen is not None:
                    found[item["metadata"]["uid"]] = seen
        with self._lock:
            if self.synced:
                for uid in found.keys() | self._known.keys():
                    self._note(self._known.get(uid), found.get(uid))
            self._known = found
        self._version = version
        self.synced = True

    def _watch(self) -> None:
        """Until the server ends it. Raises Expired, ApiError, RuntimeUnavailable."""
        try:
            self._response = self._api.watch(
                self._resource,
                selector=self._selector,
                resource_version=self._version,
                seconds=random.randint(*WATCH_SECONDS),  # noqa: S311 - spreads load, guards nothing
                silence_seconds=self._silence_seconds,
            )
        except ApiError as error:
            if error.status == 410:
                raise Expired from error
            raise
        rest = b""
        try:
            if self._stop.is_set():
                return  # it came between our asking and the answer, when there was nothing to shut down yet
            for chunk in self._response.stream(64 * 1024, decode_content=True):
                self.alive_at = time.monotonic()
                if self._stop.is_set():
                    return
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.strip():
                        self._event(msgspec.json.decode(line, type=_Event))
        except (urllib3.exceptions.HTTPError, OSError, AttributeError, ValueError, msgspec.DecodeError) as error:
            # AttributeError, ValueError: urllib3's way of saying that somebody closed the response beneath it.
            raise RuntimeUnavailable(f"the stream broke off: {error}") from error
        finally:
            self._response.close()
            self._response = None

    def _event(self, event: _Event) -> None:
        if event.type == "ERROR":
            code = int(event.object.get("code") or 0)
            if code == 410:
                raise Expired
            raise ApiError(code, str(event.object.get("reason") or ""), str(event.object.get("message") or ""), {})
        metadata = event.object["metadata"]
        self._version = metadata["resourceVersion"]
        if event.type == "BOOKMARK":
            return
        seen = self._look(event.object) if event.type != "DELETED" else None
        with self._lock:
            self._note(self._known.get(metadata["uid"]), seen)
            if seen is None:
                self._known.pop(metadata["uid"], None)
            else:
                self._known[metadata["uid"]] = seen

    def _note(self, before: tuple[str, Hashable] | None, now: tuple[str, Hashable] | None) -> None:
        if before != now:
            self._changed.update(seen[0] for seen in (before, now) if seen is not None)


class _Event(msgspec.Struct):
    type: str
    object: dict[str, Any]
