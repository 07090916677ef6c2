"""Conversations over HTTP in real time, against whatever stands in front of the replicas. Run by routing.py."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from benchmarks.routing_peers import Door
from benchmarks.routing_simulation import Result
from benchmarks.routing_workloads import Conversation, Workload

_HITS, _QUERIES = "vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"


class AnswersWrong(Exception):
    """A request was not answered; the figures would be worth nothing."""


@dataclass(slots=True)
class Replay:
    """One run.

    Args:
        replicas: URLs, whose counters are read.
        warm_seconds: what happens before does not count.
        seconds: when it is cut off.
    """

    door: Door
    replicas: Sequence[str]
    warm_seconds: float
    seconds: float
    _ttft: list[float] = field(default_factory=list)
    _began: float = 0.0

    async def run(self, workload: Workload) -> Result:
        """Replays the conversations. Raises AnswersWrong."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=1_000)
        # Plain HTTP on loopback; a context of its own for TLS would be made for nothing.
        async with httpx.AsyncClient(timeout=60, limits=limits, verify=ssl.SSLContext()) as client:
            self._began = time.monotonic()
            tasks = [asyncio.create_task(self._converse(client, found)) for found in workload]
            await asyncio.sleep(self.warm_seconds)
            before = await self._tokens(client)
            await asyncio.sleep(self.seconds - self.warm_seconds)
            after = await self._tokens(client)
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise AnswersWrong(f"{self.door!r}: {type(outcome).__name__}: {outcome}") from outcome
        return Result(sorted(self._ttft), after[0] - before[0], after[1] - before[1], ())

    async def _converse(self, client: httpx.AsyncClient, conversation: Conversation) -> None:
        await asyncio.sleep(conversation.start - (time.monotonic() - self._began))
        messages = [{"role": "system", "content": conversation.system}] if conversation.system else []
        for turn in conversation.turns:
            await asyncio.sleep(turn.pause)
            messages.append({"role": "user", "content": turn.text})
            said = await self._ask(client, conversation.tenant, messages, turn.answer_tokens)
            messages.append({"role": "assistant", "content": said})

    async def _ask(self, client: httpx.AsyncClient, tenant: int, messages: list[dict[str, str]], tokens: int) -> str:
        raw = json.dumps(messages, separators=(",", ":")).encode()
        way = self.door.way(tenant, raw)
        rest = {"model": way.model, "max_tokens": tokens, "stream": True}
        if way.salt:
            rest["cache_salt"] = way.salt
        body = b'{"messages":%s,%s' % (raw, json.dumps(rest).encode()[1:])
        headers = {"content-type": "application/json", **way.headers}
        said: list[str] = []
        asked = time.monotonic()
        try:
            url = f"{way.url}/v1/chat/completions"
            async with client.stream("POST", url, content=body, headers=headers) as answer:
                if answer.status_code != 200:
                    raise AnswersWrong(f"{answer.status_code}: {(await answer.aread())[:500]!r}")
                async for line in answer.aiter_lines():
                    text = _content(line)
                    if text and not said:
                        way.request.answering()
                        if asked - self._began >= self.warm_seconds:
                            self._ttft.append(time.monotonic() - asked)
                    if text:
                        said.append(text)
        finally:
            way.request.end()
        return "".join(said)

    async def _tokens(self, client: httpx.AsyncClient) -> tuple[int, int]:
        """Hits and queries of all replicas."""
        found = [0, 0]
        for url in self.replicas:
            for line in (await client.get(f"{url}/metrics")).text.splitlines():
                for place, name in enumerate((_HITS, _QUERIES)):
                    if line.startswith((f"{name}{{", f"{name} ")):
                        found[place] += int(float(line.rsplit(" ", 1)[1]))
        return found[0], found[1]


def _content(line: str) -> str:
    """Text of an event. The stream's end and what is not an event have none."""
    if not line.startswith("data: {"):
        return ""
    event = json.loads(line[6:])
    if "error" in event:
        raise AnswersWrong(line)
    return "".join(choice["delta"].get("content") or "" for choice in event["choices"])


async def reset(replicas: Sequence[str]) -> None:
    """Empties the caches of simulated replicas."""
    async with httpx.AsyncClient(verify=ssl.SSLContext()) as client:
        for url in replicas:
            (await client.post(f"{url}/reset")).raise_for_status()
