"""What gateways report to metering: one record an answered request, shipped in batches through a Redis stream.

A stream entry (names.USAGE) has one field `b`: a msgpack UsageBatch. Metering commits the records and the watermark
(gateway, epoch, last sequence) in one PostgreSQL transaction, then writes names.WATERMARKS; a gateway discards only
what lies at or below it and resends the rest.
"""

from __future__ import annotations

import msgspec


class UsageRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One answered request. `event_id` and `occurred_at_ns` are fixed when the request is opened.

    Attributes:
        event_id: 32 hex digits, a UUIDv7.
        occurred_at_ns: Unix nanoseconds.
        tenant, key, endpoint: public ids. `tenant` is who pays (the key's tenant).
        model: the public model name asked for.
        route: path of the API called, such as `/v1/chat/completions`.
        outcome: `ok`, `client_closed`, `upstream_error`, or `recovered` (settled after a crash of the gateway).
        prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens: billed numbers; completion counts what was
            relayed to the client. cached is a part of prompt, reasoning a part of completion.
        choice_tokens: completion tokens of each choice, where there were several and the engine said so.
        estimated: a number could not be had from the engine exactly.
        first_token_ms: from open to first content byte, None where nothing was relayed.
        billing_mode: the route's, when the request was opened; only `tokens` is priced by token.
    """

    event_id: str
    occurred_at_ns: int
    tenant: str
    key: str
    endpoint: str
    generation: int
    model: str
    route: str
    region: str
    weight_digest: str
    engine_digest: str
    outcome: str
    replica: str = ""
    adapter: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    first_token_ms: int | None = None
    duration_ms: int = 0
    billing_mode: str = "tokens"
    choice_tokens: tuple[int, ...] = ()


class UsageBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Records of one gateway's journal in order; the first has number `first_sequence`, each next one more. The first
    record of an epoch has number 1, so that a watermark of 0 means "nothing yet".

    `epoch` is new for every journal begun from nothing (a lost volume) or numbered anew (a hole, an older volume);
    (gateway, epoch, sequence) never repeats with another content.

    `floor` is the lowest sequence that the journal still has; 0 where the gateway does not say. What lies below it was
    confirmed once and will never be sent again.
    """

    gateway: str
    epoch: str
    first_sequence: int
    records: tuple[UsageRecord, ...]
    floor: int = 0
