"""The gateway's own connection to Redis."""

from __future__ import annotations

import asyncio
import base64
import ssl
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import hiredis
import msgspec
import pytest
import uvloop

from freehold.gateway.admission.link import REPLY_SECONDS, Link, Script, connect
from freehold.gateway.failures import LinkLost
from tests.fakes.kubernetes.certificates import self_signed
from tests.integration.gateway.admission_members import Wire, membership, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import redis

ECHO = Script("return ARGV[1]")


class Losses:
    """Counts."""

    count = 0

    def add(self) -> None:
        """One more."""
        self.count += 1


@asynccontextmanager
async def linked(url: str, losses: Losses | None = None) -> AsyncIterator[Link]:
    """A link, closed in the end."""
    link = await connect(url, (losses or Losses()).add)
    try:
        yield link
    finally:
        link.close()
        await asyncio.sleep(0)


async def test_replies_come_in_the_order_of_the_commands(redis_url: str, redis_client: redis.Redis) -> None:
    redis_client.script_flush()
    got: list[Any] = []
    async with linked(redis_url) as link:
        for number in range(100):
            link.evaluate(ECHO, b"%d" % number, got.append)
        await link.idle()
    assert got == [b"%d" % number for number in range(100)]


async def test_a_script_that_fails_is_told(redis_url: str) -> None:
    async with linked(redis_url) as link:
        with pytest.raises(hiredis.ReplyError, match="no such thing"):
            await link.run(Script("return redis.error_reply('no such thing')"), b"")
        assert await link.run(ECHO, b"x") == b"x"


async def test_a_wrong_password_is_told(redis_url: str) -> None:
    port = urlsplit(redis_url).port
    with pytest.raises(hiredis.ReplyError, match="WRONGPASS"):
        await connect(f"redis://:wrong@127.0.0.1:{port}/0", Losses().add)


async def test_the_database_of_the_address_is_selected(redis_url: str, redis_client: redis.Redis) -> None:
    async with linked(redis_url.removesuffix("/0") + "/3") as link:
        await link.command("SET", "here", "1")
    assert redis_client.get("here") is None


async def test_a_late_reply_ends_the_connection_and_whoever_waits_is_told(redis_url: str) -> None:
    wire, losses = Wire(redis_url), Losses()
    server = await wire.listen()
    try:
        async with linked(wire.url, losses) as link:
            assert await link.run(ECHO, b"x") == b"x"
            wire.stall(replies=True)
            got: list[Any] = []
            loop = asyncio.get_running_loop()
            begun = loop.time()
            link.evaluate(ECHO, b"1", got.append)
            link.evaluate(ECHO, b"2", got.append)
            await link.idle()
            assert REPLY_SECONDS <= loop.time() - begun < 2
            assert [type(each) for each in got] == [LinkLost, LinkLost]
            assert losses.count == 1
            with pytest.raises(LinkLost):
                await link.run(ECHO, b"3")
    finally:
        server.close()
        await wire.close()


async def test_a_lost_connection_is_noticed_at_once(redis_url: str, redis_client: redis.Redis) -> None:
    losses = Losses()
    async with linked(redis_url, losses) as link:
        number = await link.command("CLIENT", "ID")
        redis_client.client_kill_filter(_id=str(number))
        await until(lambda: losses.count == 1)
        assert not link.alive


async def test_rediss_is_encrypted_and_verified(redis_url: str, tmp_path: Path) -> None:
    certificate = self_signed("127.0.0.1")
    (tmp_path / "ca.pem").write_bytes(base64.b64decode(certificate.authority_data))
    target = urlsplit(redis_url)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(target.hostname, target.port)
        await asyncio.gather(_pump(reader, back), _pump(there, writer))
        ended.set()

    ended = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=certificate.context)
    port = server.sockets[0].getsockname()[1]
    url = f"rediss://:{target.password}@127.0.0.1:{port}/0"
    async with server:
        async with linked(f"{url}?ssl_ca_certs={tmp_path}/ca.pem") as link:
            assert await link.run(ECHO, b"x") == b"x"
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(url, Losses().add)
        await ended.wait()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()


def test_the_gateways_own_event_loop_carries_it_too(redis_url: str, redis_client: redis.Redis, tmp_path: Path) -> None:
    async def ask() -> str:
        async with membership(redis_url, redis_client, tmp_path, 1) as members:
            members.prepay(10**9)
            await members.all[0].begin()
            answer = await members.all[0].ask(members.want(prompt=1, max_tokens=1))
            return type(answer).__name__

    assert uvloop.run(ask()) == "Ticket"


def test_what_travels_is_msgpack_that_redis_reads(redis_url: str) -> None:
    script = Script("return cmsgpack.pack(cmsgpack.unpack(ARGV[1]))")
    value = [0, -1, 2**53, -(2**53), "text", {}, [[], [1]], True, 60_000 * 10**11]

    async def echo() -> bytes:
        async with linked(redis_url) as link:
            reply = await link.run(script, msgspec.msgpack.encode(value))
            assert isinstance(reply, bytes)
            return reply

    back = msgspec.msgpack.decode(uvloop.run(echo()))
    assert back == [*value[:5], [], *value[6:]]  # Lua knows no empty map
