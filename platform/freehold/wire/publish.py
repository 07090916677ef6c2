"""Control plane → Redis. Called by each domain after commit, and by its periodic resync.

Order without locks: a publisher first draws a version from a PostgreSQL sequence (db.versions.next_version), *then*
reads the committed state, then publishes. Redis keeps, for every field, the highest version it has seen. Whoever drew
later has read later, so the newest state wins however the writes are interleaved.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import cast

import msgspec
import redis

from freehold.wire import names
from freehold.wire.records import encode

CHANGES_KEPT = 20_000
_VERSION = struct.Struct(">Q")

# KEYS: section hash, changes stream, sequence. ARGV: section name, cap, then triples field, version (8 bytes), value.
# Versions are compared byte by byte: Lua's `<` on strings is strcoll, which follows the server's locale.
_PUT = """
local function older(a, b)
  for i = 1, 8 do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return false
end
local applied = 0
for i = 3, #ARGV, 3 do
  local field, version, value = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local old = redis.call('HGET', KEYS[1], field)
  if (not old or older(old, version)) then
    if old ~= version .. value then
      redis.call('HSET', KEYS[1], field, version .. value)
      if not old or string.sub(old, 9) ~= value then
        local n = redis.call('INCR', KEYS[3])
        redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 'n', n, 's', ARGV[1], 'k', field, 'v', version ..
        value) applied = applied + 1
      end
    end
  end
end
return applied
"""


def split(value: bytes) -> tuple[int, bytes]:
    """A stored value → (version, msgpack struct); the struct is empty for a tombstone."""
    return _VERSION.unpack_from(value)[0], value[8:]


class VersionBehind(Exception):
    """Redis has a whole section of this version or a later one. Either somebody else was faster, or PostgreSQL was
    restored and its versions went back; then nothing published would ever win again. The caller advances the versions
    above `seen` and publishes once more.

    Attributes:
        seen: the highest version that the section holds.
    """

    def __init__(self, section: names.Section, version: int, seen: int) -> None:
        super().__init__(f"{section.value}: version {version} is behind {seen}")
        self.seen = seen


class Publisher:
    """Writes records of one section. Raises redis.RedisError; callers after commit swallow it (the resync repairs)."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._put = client.register_script(_PUT)

    def put(self, section: names.Section, field: str, record: msgspec.Struct | None, *, version: int) -> int:
        """Publishes one record; None withdraws it. Returns how many fields changed (0 or 1)."""
        return self._apply(section, [(field, record)], version)

    def replace(self, section: names.Section, records: Mapping[str, msgspec.Struct], *, version: int) -> int:
        """Publishes a whole section: fields not in `records` are withdrawn. Returns how many fields changed.
        Raises VersionBehind."""
        complete = int(cast("bytes | None", self._client.get(names.complete(section))) or -1)
        held = cast("dict[bytes, bytes]", self._client.hgetall(names.section(section)))
        if complete >= version:
            raise VersionBehind(section, version, max([complete, *(split(value)[0] for value in held.values())]))
        stale = [
            (name, None)
            for raw, value in held.items()
            if (name := raw.decode()) not in records and len(value) > _VERSION.size
        ]
        changed = self._apply(section, [*records.items(), *stale], version)
        self._client.set(names.complete(section), version)
        return changed

    def _apply(
        self, section: names.Section, fields: list[tuple[str, msgspec.Struct | None]], version: int, batch: int = 500
    ) -> int:
        keys = [names.section(section), names.CHANGES, names.SEQUENCE]
        packed = _VERSION.pack(version)
        changed = 0
        for start in range(0, len(fields), batch):
            arguments: list[str | bytes | int] = [section.value, CHANGES_KEPT]
            for field, record in fields[start : start + batch]:
                arguments += [field, packed, b"" if record is None else encode(record)]
            changed += int(self._put(keys=keys, args=arguments))
        return changed
