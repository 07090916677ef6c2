"""The two Lua scripts and what they say. All that several gateways must agree on happens in them.

Each takes one msgpack blob and returns one. Arithmetic is in integers below 2^53, which Lua's doubles hold exactly; the
clock is Redis's. Nothing is written before everything is decided, so that a script that fails has changed nothing.

A token bucket is kept as what of it is used, in 60,000ths (`UNIT`): it empties by its limit a minute, thus by exactly
`limit` of these a millisecond, and a bucket that Redis has forgotten is an unused one. Reservations and what is given
back both count in full; so what is admitted in t minutes is never more than (1 + t) times the limit.
"""

from __future__ import annotations

from typing import Final

import msgspec

from freehold.gateway.admission.link import Script
from freehold.wire import names

UNIT: Final = 60_000  # of a bucket, for one request or token
LARGEST_LIMIT: Final = 10**11  # times UNIT it is still below 2^53
LARGEST_AMOUNT: Final = 1 << 53
BATCH: Final = 256  # asks a script run; Redis does nothing else meanwhile

ADMITTED: Final = 1
UNDECIDED: Final = 2  # within all limits, which are taken; the balance is not known
REQUESTS: Final = -1
TOKENS: Final = -2
CONCURRENCY: Final = -3
MONEY: Final = -4
TOO_LARGE: Final = -5

_NAMES = f"""
local QUOTA, MONEY, HELD = '{names.quota("")}', '{names.money("")}', '{names.held("")}'
local EPOCH, OPEN = '{names.MONEY_EPOCH}', '{names.MONEY_OPEN}'
local JOINED, GATEWAYS = '{names.MONEY_JOINED}', '{names.GATEWAYS}'
local call, floor, ceil, max = redis.call, math.floor, math.ceil, math.max
local time = call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)
local message = cmsgpack.unpack(ARGV[1])
"""

# message: gateway, session, plans [[tenant or '', [[scope, requests, tokens, concurrency], ...]], ...],
#          given back [[plan, concurrency, requests, tokens], ...], money {tenant: change},
#          asks [[plan, tokens, outputs, want, least, nanos, nanos a completion token times outputs], ...]
# reply:   [whether the session is known, verdicts]
DECIDE = Script(
    _NAMES
    + """
local UNIT, DAY = 60000, 86400000
local gateway, session, plans, given, money, asks =
  message[1], message[2], message[3], message[4], message[5], message[6]
local held = HELD .. gateway
if call('HGET', held, 's') ~= session then return cmsgpack.pack({false, {}}) end

local scopes, scope_list = {}, {}
local function refreshed(bound)
  local name = bound[1]
  local scope = scopes[name]
  if scope then return scope end
  local key = QUOTA .. name
  local v = call('HMGET', key, 'r', 't', 'c', 'a', 'x')
  local past = max(0, now - (tonumber(v[4]) or now))
  scope = {
    key = key, name = name, expires = tonumber(v[5]) or 0, c = tonumber(v[3]) or 0, taken = 0, changed = false,
    r = max(0, (tonumber(v[1]) or 0) - past * bound[2]), t = max(0, (tonumber(v[2]) or 0) - past * bound[3]),
  }
  scopes[name] = scope
  scope_list[#scope_list + 1] = scope
  return scope
end

local purses, purse_list = {}, {}
local function purse(tenant)
  local found = purses[tenant]
  if found then return found end
  local v = call('HMGET', MONEY .. tenant, 'b', 'h')
  found = {tenant = tenant, b = tonumber(v[1]) or 0, h = tonumber(v[2]) or 0, change = 0}
  purses[tenant] = found
  purse_list[#purse_list + 1] = found
  return found
end
local function hold(found, nanos)
  found.h = found.h + nanos
  found.change = found.change + nanos
end

for _, row in ipairs(given) do
  for _, bound in ipairs(plans[row[1] + 1][2]) do
    local scope = refreshed(bound)
    if bound[2] > 0 then scope.r = max(0, scope.r - row[3] * UNIT) end
    if bound[3] > 0 then scope.t = max(0, scope.t - row[4] * UNIT) end
    if bound[4] > 0 then scope.c, scope.taken = max(0, scope.c + row[2]), scope.taken + row[2] end
    scope.changed = true
  end
end
for tenant, change in pairs(money) do hold(purse(tenant), change) end

local known, believed = false, false
local function believe()
  if not known then
    local id = call('HGET', EPOCH, 'id')
    believed = id and id == call('GET', OPEN)
    known = true
  end
  return believed
end

local verdicts = {}
for number, ask in ipairs(asks) do
  local plan = plans[ask[1] + 1]
  local tenant, bounds = plan[1], plan[2]
  local tokens, outputs, want, least, nanos, each = ask[2], ask[3], ask[4], ask[5], ask[6], ask[7]
  local need = tokens + outputs * least
  local grant, code, wait, which, there = want, 1, -1, 0, 0
  local function refuse(why, pause, position, left)
    if pause > wait then code, wait, which, there = why, pause, position, left end
  end
  for position, bound in ipairs(bounds) do
    local scope = refreshed(bound)
    local requests, rate, concurrency = bound[2], bound[3], bound[4]
    if requests > 0 and scope.r + UNIT > requests * UNIT then
      refuse(-1, ceil((scope.r + UNIT - requests * UNIT) / requests), position, 0)
    end
    if rate > 0 then
      local left = floor((rate * UNIT - scope.t) / UNIT)
      if need > rate then
        refuse(-5, UNIT, position, left)
      elseif need > left then
        refuse(-2, ceil((scope.t + need * UNIT - rate * UNIT) / rate), position, left)
      elseif outputs > 0 then
        local fit = floor((left - tokens) / outputs)
        if fit < grant then grant = fit end
      end
    end
    if concurrency > 0 and scope.c >= concurrency then refuse(-3, 1000, position, 0) end
  end
  local amount, found = 0, nil
  if code == 1 and tenant ~= '' then
    found = purse(tenant)
    if believe() then
      local available = found.h < found.b and found.b - found.h or 0
      if each > 0 then
        local fit = floor((available - nanos) / each)
        if fit < grant then grant = fit end
      end
      amount = nanos + each * grant
      if found.b < found.h or amount > available or grant < least then code, amount = -4, 0 end
    else
      code = 2
    end
  end
  local limit_r, left_r, reset_r, limit_t, left_t, reset_t = 0, 0, 0, 0, 0, 0
  local whole = (tokens + outputs * grant) * UNIT
  for _, bound in ipairs(bounds) do
    local scope = scopes[bound[1]]
    if code > 0 then
      if bound[2] > 0 then scope.r = scope.r + UNIT end
      if bound[3] > 0 then scope.t = scope.t + whole end
      if bound[4] > 0 then scope.c, scope.taken = scope.c + 1, scope.taken + 1 end
      scope.changed = true
    end
    if bound[2] > 0 then
      local left = max(0, floor(bound[2] - scope.r / UNIT))
      if limit_r == 0 or left < left_r then
        limit_r, left_r, reset_r = bound[2], left, ceil(scope.r / bound[2])
      end
    end
    if bound[3] > 0 then
      local left = max(0, floor(bound[3] - scope.t / UNIT))
      if limit_t == 0 or left < left_t then
        limit_t, left_t, reset_t = bound[3], left, ceil(scope.t / bound[3])
      end
    end
  end
  if amount > 0 then hold(found, amount) end
  if code > 0 then
    verdicts[number] = {code, grant, amount, limit_r, left_r, reset_r, limit_t, left_t, reset_t}
  else
    verdicts[number] = {code, 0, 0, limit_r, left_r, reset_r, limit_t, left_t, reset_t, which - 1, wait, there, need}
  end
end

for _, scope in ipairs(scope_list) do
  if scope.changed then
    call('HSET', scope.key, 'r', scope.r, 't', scope.t, 'c', scope.c, 'a', now)
    if scope.expires < now + DAY then
      call('HSET', scope.key, 'x', now + 2 * DAY)
      call('PEXPIREAT', scope.key, now + 2 * DAY)
    end
    if scope.taken ~= 0 then
      if call('HINCRBY', held, 'c:' .. scope.name, scope.taken) <= 0 then call('HDEL', held, 'c:' .. scope.name) end
    end
  end
end
for _, found in ipairs(purse_list) do
  if found.change ~= 0 then
    local change = string.format('%.0f', found.change)
    call('HINCRBY', MONEY .. found.tenant, 'h', change)
    if call('HINCRBY', held, 'm:' .. found.tenant, change) == 0 then call('HDEL', held, 'm:' .. found.tenant) end
  end
end
return cmsgpack.pack({true, verdicts})
"""
)

# message: kind ('join', 'renew', 'leave'), gateway, session, lease in ms (0: none), ms to wait for those expected,
#          in flight {scope: requests}, held {tenant: nanos}
# reply:   [whether the session is known, epoch or '', whether it is open]
MEMBERSHIP = Script(
    _NAMES
    + """
local kind, gateway, session, lease, patience, in_flight, nanos =
  message[1], message[2], message[3], message[4], message[5], message[6], message[7]

local function add(field, change)
  if change == 0 then return end
  local name = string.sub(field, 3)
  if string.sub(field, 1, 2) == 'c:' then
    if call('HINCRBY', QUOTA .. name, 'c', change) < 0 then call('HSET', QUOTA .. name, 'c', 0) end
  else
    call('HINCRBY', MONEY .. name, 'h', string.format('%.0f', change))
  end
end
local function parts(key)
  local found, flat = {}, call('HGETALL', key)
  for i = 1, #flat, 2 do
    if flat[i] ~= 's' then found[flat[i]] = tonumber(flat[i + 1]) end
  end
  return found
end

local held = HELD .. gateway
if kind == 'renew' then
  if call('HGET', held, 's') ~= session or not call('ZSCORE', GATEWAYS, gateway) then
    return cmsgpack.pack({false, '', false})
  end
else
  local before, after = parts(held), {}
  for scope, count in pairs(in_flight) do after['c:' .. scope] = count end
  for tenant, amount in pairs(nanos) do after['m:' .. tenant] = amount end
  for field, value in pairs(before) do
    if not after[field] then add(field, -value) end
  end
  call('DEL', held)
  for field, value in pairs(after) do
    add(field, value - (before[field] or 0))
    if value ~= 0 then call('HSET', held, field, string.format('%.0f', value)) end
  end
  if kind == 'join' then call('HSET', held, 's', session) end
end
if lease > 0 then
  call('ZADD', GATEWAYS, now + lease, gateway)
else
  call('ZREM', GATEWAYS, gateway)
end

for _, gone in ipairs(call('ZRANGEBYSCORE', GATEWAYS, '-inf', now, 'LIMIT', 0, 16)) do
  local key, kept = HELD .. gone, false
  for field, value in pairs(parts(key)) do
    if string.sub(field, 1, 2) == 'c:' then
      add(field, -value)
      call('HDEL', key, field)
    else
      kept = true
    end
  end
  call('HDEL', key, 's')
  call('ZREM', GATEWAYS, gone)
end

local epoch = call('HMGET', EPOCH, 'id', 'at', 'expected')
local id = epoch[1]
if not id then return cmsgpack.pack({true, '', false}) end
if kind ~= 'renew' then call('HSET', JOINED, gateway, id) end
local open = call('GET', OPEN) == id
if not open then
  open = true
  for _, live in ipairs(call('ZRANGEBYSCORE', GATEWAYS, now + 1, '+inf')) do
    if call('HGET', JOINED, live) ~= id then open = false end
  end
  if open and now - (tonumber(epoch[2]) or 0) <= patience then
    for _, expected in ipairs(cjson.decode(epoch[3] or '[]')) do
      if call('HGET', JOINED, expected) ~= id then open = false end
    end
  end
  if open then call('SET', OPEN, id) end
end
return cmsgpack.pack({true, id, open})
"""
)


class Verdict(msgspec.Struct, array_like=True):
    """What DECIDE says of one ask.

    Attributes:
        code: ADMITTED, UNDECIDED, or why not.
        max_tokens: granted for each output; 0 where nothing was left to grant.
        nanos: held of the balance.
        limit_requests, left_requests, reset_requests: of the scope with the fewest left; reset in milliseconds until
            nothing of it is used. 0 where no rate is limited. The same for tokens.
        which: position in the plan of the bound that refused and has the longest wait.
        wait: milliseconds until it would not have refused.
        there, needed: tokens left in that scope, and least number of tokens asked for.
    """

    code: int
    max_tokens: int = 0
    nanos: int = 0
    limit_requests: int = 0
    left_requests: int = 0
    reset_requests: int = 0
    limit_tokens: int = 0
    left_tokens: int = 0
    reset_tokens: int = 0
    which: int = -1
    wait: int = 0
    there: int = 0
    needed: int = 0


class Decided(msgspec.Struct, array_like=True):
    """The reply of DECIDE."""

    known: bool
    verdicts: list[Verdict]


class Member(msgspec.Struct, array_like=True):
    """The reply of MEMBERSHIP."""

    known: bool
    epoch: str
    open: bool


encode = msgspec.msgpack.Encoder().encode
decode_decided = msgspec.msgpack.Decoder(Decided).decode
decode_member = msgspec.msgpack.Decoder(Member).decode
