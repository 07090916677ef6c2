"""Control plane → Redis: prepaid balances and their epoch; gateways reserve from them (gateway/admission).

A balance is `b` in names.money, as the ledger has it; `h` beside it is what gateways hold, and theirs alone to change.
Order is by version, as in publish.py: drawn before the state is read, the highest wins.

The epoch says that balances can be believed. It goes with everything else when Redis loses its memory, and is written
again only after every balance is: by whoever began a draft that is still there, so that a loss in between is noticed.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import redis

from freehold.wire import names

_BATCH: Final = 500
_DRAFT_SECONDS: Final = 600

# KEYS: hashes of tenants. ARGV: version, then a balance each (passed on as text: Lua's numbers are doubles).
# Returns the highest version found that is later than ours, or 0.
_SET = """
local version, newest = tonumber(ARGV[1]), 0
for i, key in ipairs(KEYS) do
  local old = tonumber(redis.call('HGET', key, 'v') or -1)
  if old < version then
    redis.call('HSET', key, 'b', ARGV[i + 1], 'v', ARGV[1])
  elseif old > version and old > newest then
    newest = old
  end
end
return newest
"""

# KEYS: epoch, draft. ARGV: id, expected. Returns 1 where this became the epoch.
_BEGIN = """
if redis.call('DEL', KEYS[2]) == 0 or redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local now = redis.call('TIME')
local ms = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'at', ms, 'expected', ARGV[2])
return 1
"""

# KEYS: leases, what the gateway holds, joined. ARGV: gateway, prefix of money, prefix of quotas.
# Returns what was released as field and value, or nothing where the lease is alive.
_FORGET = """
local now = redis.call('TIME')
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
if lease and tonumber(lease) > now[1] * 1000 + math.floor(now[2] / 1000) then return nil end
local fields = redis.call('HGETALL', KEYS[2])
for i = 1, #fields, 2 do
  local kind, name, value = string.sub(fields[i], 1, 2), string.sub(fields[i], 3), fields[i + 1]
  local back = string.sub(value, 1, 1) == '-' and string.sub(value, 2) or '-' .. value
  if kind == 'm:' then
    redis.call('HINCRBY', ARGV[2] .. name, 'h', back)
  elseif kind == 'c:' then
    redis.call('HINCRBY', ARGV[3] .. name, 'c', back)
  end
end
redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
return fields
"""


class LeaseAlive(Exception):
    """The gateway is at work: what it holds is its own to give back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochState:
    """What Redis knows of the epoch.

    Attributes:
        id: of the epoch; empty where there is none.
        open: whether the gateways have told what they hold, so that it is in force.
        gateways: those with a lease.
    """

    id: str
    open: bool
    gateways: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Released:
    """What a forgotten gateway held: tenant → nanos, scope → requests in flight."""

    money: Mapping[str, int]
    requests: Mapping[str, int]


class Balances:
    """Writes balances and epochs. Every method raises redis.RedisError."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._set = client.register_script(_SET)
        self._begin = client.register_script(_BEGIN)
        self._forget = client.register_script(_FORGET)

    def put(self, balances: Mapping[str, int], *, version: int) -> int:
        """Publishes balances (tenant's public id → nanos) where `version` is later than what is there.

        Returns 0, or the latest version that was later than ours: somebody else was faster, or versions went back (see
        publish.VersionBehind).
        """
        tenants = list(balances)
        newest = 0
        for start in range(0, len(tenants), _BATCH):
            some = tenants[start : start + _BATCH]
            keys = [names.money(tenant) for tenant in some]
            found = self._set(keys=keys, args=[version, *(balances[tenant] for tenant in some)])
            newest = max(newest, int(cast("int", found)))
        return newest

    def epoch(self) -> EpochState:
        """The epoch as it is now."""
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hget(names.MONEY_EPOCH, "id")
        pipeline.get(names.MONEY_OPEN)
        pipeline.zrange(names.GATEWAYS, 0, -1)
        epoch, opened, gateways = pipeline.execute()
        return EpochState(
            id=(epoch or b"").decode(),
            open=epoch is not None and epoch == opened,
            gateways=frozenset(name.decode() for name in gateways),
        )

    def holding(self, gateways: Collection[str]) -> set[str]:
        """Those among these gateways that hold something, with a lease or without."""
        pipeline = self._client.pipeline(transaction=False)
        for gateway in gateways:
            pipeline.exists(names.held(gateway))
        return {gateway for gateway, found in zip(gateways, pipeline.execute(), strict=True) if found}

    def draft(self) -> str:
        """Begins what may become an epoch. Every balance is to be published after this and before `begin`."""
        token = uuid.uuid4().hex
        self._client.set(names.money_draft(token), 1, ex=_DRAFT_SECONDS)
        return token

    def begin(self, token: str, *, expected: Collection[str]) -> bool:
        """Makes the draft the epoch. False where there is one by now, or where Redis has lost its memory since `draft`.

        `expected`: gateways that may hold money, which are waited for until it is in force.
        """
        keys = [names.MONEY_EPOCH, names.money_draft(token)]
        return bool(self._begin(keys=keys, args=[token, json.dumps(sorted(expected))]))

    def forget(self, gateway: str) -> Released:
        """Releases all that a gateway holds, whose journal will never come back. Raises LeaseAlive where it lives."""
        found: Any = self._forget(
            keys=[names.GATEWAYS, names.held(gateway), names.MONEY_JOINED],
            args=[gateway, names.money(""), names.quota("")],
        )
        if found is None:
            raise LeaseAlive
        held = {name.decode(): value for name, value in zip(found[::2], found[1::2], strict=True)}
        return Released(
            money={name[2:]: int(value) for name, value in held.items() if name.startswith("m:")},
            requests={name[2:]: int(value) for name, value in held.items() if name.startswith("c:")},
        )
