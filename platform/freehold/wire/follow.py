"""Redis → gateway: a snapshot of keys, tenants and routes that is followed change by change and kept on disk.

Used by the gateway alone. `Follower.run` never ends by itself and never raises for Redis: while Redis is away the last
snapshot stays in force. A section that Redis does not hold completely (it was emptied) is not believed: the old one
stays until the control plane has published it again.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import msgspec
import redis.asyncio
from redis.exceptions import RedisError

from freehold.common.logging import get_logger
from freehold.wire import names
from freehold.wire.publish import split
from freehold.wire.records import AccountRecord, KeyRecord, PriceRecord, R, RouteRecord, TenantRecord, decode

if TYPE_CHECKING:
    from pathlib import Path

log = get_logger(__name__)

_BLOCK_MS = 2_000
_RETRY_SECONDS = 0.5
_RETRY_MAX_SECONDS = 2.0
_SAVE_SECONDS = 5.0
_SAVE_ANYWAY_SECONDS = 60.0  # so that the kept snapshot's age is known to about a minute


class Snapshot:
    """What the gateway knows, by plain dictionaries: a look-up is one hash. Only the Follower writes.

    Attributes:
        changes: goes up with every change, so that what is derived from the dictionaries can be kept.
        priced: whether prices and accounts were ever had. A control plane of the version before publishes none.
    """

    def __init__(self) -> None:
        self.keys: dict[str, KeyRecord] = {}
        self.tenants: dict[str, TenantRecord] = {}
        self.routes: dict[str, RouteRecord] = {}
        self.prices: dict[str, PriceRecord] = {}
        self.accounts: dict[str, AccountRecord] = {}
        self.changes = 0
        self.priced = False
        self.taken_at: float = 0.0  # Unix seconds when Redis was last known to agree; 0 = never

    @property
    def loaded(self) -> bool:
        """Whether there is anything to serve by: from Redis or from disk."""
        return self.taken_at > 0


_BILLING = frozenset({names.Section.PRICES, names.Section.ACCOUNTS})


class _Stored(msgspec.Struct):
    """The file on disk: raw section fields as Redis held them."""

    taken_at: float
    sections: dict[str, dict[str, bytes]]
    version: int = 1
    priced: bool = False


class Follower:
    """Keeps a Snapshot true to Redis.

    Args:
        url: redis:// address.
        path: where the snapshot is kept across restarts; None keeps it in memory only.
    """

    def __init__(self, url: str, path: Path | None) -> None:
        self.snapshot = Snapshot()
        self._url = url
        self._path = path
        self._raw: dict[names.Section, dict[str, bytes]] = {section: {} for section in names.Section}
        self._sequence = -1
        self._dirty = False

    def load_from_disk(self) -> bool:
        """Takes the kept snapshot, if there is one that can be read. Returns whether there was."""
        if self._path is None:
            return False
        try:
            stored = msgspec.msgpack.decode(self._path.read_bytes(), type=_Stored)
        except FileNotFoundError:
            return False
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("snapshot_unreadable", path=str(self._path), error=str(error))
            return False
        for section in names.Section:
            self._replace(section, stored.sections.get(section.value, {}))
        self.snapshot.taken_at = stored.taken_at
        self.snapshot.priced = stored.priced
        return True

    async def run(self) -> None:
        """Follows until cancelled."""
        client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
            self._url, socket_connect_timeout=2, socket_timeout=_BLOCK_MS / 1000 + 3
        )
        saved = time.monotonic()
        pause = _RETRY_SECONDS
        try:
            while True:
                try:
                    stop_if_cancelled()
                    cursor = await self._reload(client)
                    while cursor is not None:
                        stop_if_cancelled()
                        cursor = await self._step(client, cursor)
                        pause = _RETRY_SECONDS
                        age = time.monotonic() - saved
                        if age > (_SAVE_SECONDS if self._dirty else _SAVE_ANYWAY_SECONDS):
                            self.save()
                            saved = time.monotonic()
                except (RedisError, OSError) as error:
                    log.warning("follow_interrupted", error=str(error))
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _RETRY_MAX_SECONDS)
        finally:
            self.save()
            await client.aclose()

    async def _reload(self, client: redis.asyncio.Redis) -> str | None:
        """Reads everything. Returns the stream position from which to follow, None where Redis is not complete yet."""
        newest: Any = await client.xrevrange(names.CHANGES, count=1)
        cursor = newest[0][0].decode() if newest else "0-0"
        sequence = await client.get(names.SEQUENCE)
        priced = True
        for section in names.Section:
            if not await client.exists(names.complete(section)):
                if section in _BILLING:
                    priced = False  # a control plane of the version before, or one that has not come to it yet
                    continue
                await asyncio.sleep(_RETRY_SECONDS)
                return None
            fields: Any = await client.hgetall(names.section(section))
            self._replace(section, {key.decode(): value for key, value in fields.items()})
        # What was published between reading the sequence and the hashes comes again and is discarded by its version.
        self._sequence = int(newest[0][1][b"n"]) if newest else int(sequence or 0)
        self.snapshot.taken_at = time.time()
        self.snapshot.priced = self.snapshot.priced or priced
        self._dirty = True
        self.save()
        return cursor

    async def _step(self, client: redis.asyncio.Redis, cursor: str) -> str | None:
        """Waits for changes and applies them. Returns the new position, None where a reload is needed."""
        answer: Any = await client.xread({names.CHANGES: cursor}, count=1_000, block=_BLOCK_MS)
        if not answer:
            current = int(await client.get(names.SEQUENCE) or 0)
            if current != self._sequence or not self.snapshot.priced:
                return None
            self.snapshot.taken_at = time.time()
            return cursor
        for position, fields in answer[0][1]:
            number = int(fields[b"n"])
            if number != self._sequence + 1:
                return None
            self._sequence = number
            cursor = position.decode()
            self._apply(fields[b"s"].decode(), fields[b"k"].decode(), fields[b"v"])
        self.snapshot.taken_at = time.time()
        return cursor

    def _apply(self, section_name: str, field: str, value: bytes) -> None:
        try:
            section = names.Section(section_name)
        except ValueError:
            return  # a newer control plane publishes more than we know
        old = self._raw[section].get(field)
        if old is not None and split(old)[0] >= split(value)[0]:
            return
        self._raw[section][field] = value
        self._set(section, field, split(value)[1])
        self._dirty = True

    def _replace(self, section: names.Section, fields: dict[str, bytes]) -> None:
        old = self._raw[section]
        self._raw[section] = fields
        for field in old.keys() - fields.keys():
            self._set(section, field, b"")
        for field, value in fields.items():
            if old.get(field) != value:
                self._set(section, field, split(value)[1])

    def _set(self, section: names.Section, field: str, data: bytes) -> None:
        snapshot = self.snapshot
        snapshot.changes += 1
        try:
            match section:
                case names.Section.KEYS:
                    _put(snapshot.keys, field, data, KeyRecord)
                case names.Section.TENANTS:
                    _put(snapshot.tenants, field, data, TenantRecord)
                case names.Section.ROUTES:
                    _put(snapshot.routes, field, data, RouteRecord)
                case names.Section.PRICES:
                    _put(snapshot.prices, field, data, PriceRecord)
                case names.Section.ACCOUNTS:
                    _put(snapshot.accounts, field, data, AccountRecord)
        except msgspec.MsgspecError as error:
            log.error("record_unreadable", section=section.value, field=field, error=str(error))

    def save(self) -> None:
        """Writes the snapshot to disk, atomically; a full disk is logged, not fatal."""
        if self._path is None or not self.snapshot.loaded:
            return
        stored = _Stored(
            taken_at=self.snapshot.taken_at,
            sections={section.value: fields for section, fields in self._raw.items()},
            priced=self.snapshot.priced,
        )
        temporary = self._path.with_suffix(".new")
        try:
            temporary.touch(mode=0o600)
            temporary.write_bytes(msgspec.msgpack.encode(stored))
            temporary.replace(self._path)
            self._dirty = False
        except OSError as error:
            log.warning("snapshot_not_saved", path=str(self._path), error=str(error))


def stop_if_cancelled() -> None:
    """Ends a task that was cancelled although the Redis client swallowed it: for loops that go on after errors."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _put(target: dict[str, R], field: str, data: bytes, kind: type[R]) -> None:
    if data:
        target[field] = decode(data, kind)
    else:
        target.pop(field, None)
