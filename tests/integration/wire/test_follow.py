"""Publisher → real Redis → Follower."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from freehold.wire import names
from freehold.wire.follow import Follower
from freehold.wire.names import Section
from freehold.wire.publish import Publisher, VersionBehind
from freehold.wire.records import KeyRecord, TenantRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    import redis


def key(name: str) -> KeyRecord:
    """A key."""
    return KeyRecord(id=name, tenant="tnt_1")


def everything(client: redis.Redis, version: int, **keys: KeyRecord) -> None:
    """A full publication of all sections."""
    publisher = Publisher(client)
    publisher.replace(Section.KEYS, keys, version=version)
    publisher.replace(Section.TENANTS, {"tnt_1": TenantRecord(slug="a", cache_salt="s")}, version=version)
    publisher.replace(Section.ROUTES, {}, version=version)


@asynccontextmanager
async def following(url: str, path: Path | None = None) -> AsyncIterator[Follower]:
    """A follower at work."""
    follower = Follower(url, path)
    task = asyncio.create_task(follower.run())
    try:
        yield follower
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=10)
        assert task.done()


async def until(condition: Callable[[], object]) -> None:
    """Polls with a deadline."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_changes_arrive_one_by_one(redis_url: str, redis_client: redis.Redis) -> None:
    everything(redis_client, 1, a=key("1"))
    async with following(redis_url) as follower:
        await until(lambda: follower.snapshot.keys == {"a": key("1")})
        publisher = Publisher(redis_client)
        publisher.put(Section.KEYS, "b", key("2"), version=2)
        publisher.put(Section.KEYS, "a", None, version=3)
        await until(lambda: follower.snapshot.keys == {"b": key("2")})


async def test_an_older_version_never_wins(redis_url: str, redis_client: redis.Redis) -> None:
    everything(redis_client, 5, a=key("new"))
    publisher = Publisher(redis_client)
    assert publisher.put(Section.KEYS, "a", key("old"), version=4) == 0
    assert publisher.put(Section.KEYS, "gone", None, version=7) == 1
    assert publisher.put(Section.KEYS, "gone", key("back"), version=6) == 0
    async with following(redis_url) as follower:
        await until(lambda: follower.snapshot.loaded)
        assert follower.snapshot.keys == {"a": key("new")}


async def test_an_emptied_redis_is_not_believed_until_it_is_published_again(
    redis_url: str, redis_client: redis.Redis
) -> None:
    everything(redis_client, 1, a=key("1"))
    async with following(redis_url) as follower:
        await until(lambda: follower.snapshot.loaded)
        redis_client.flushall()
        Publisher(redis_client).put(Section.KEYS, "b", key("2"), version=2)
        await asyncio.sleep(0)
        assert follower.snapshot.keys == {"a": key("1")}
        everything(redis_client, 3, b=key("2"))
        await until(lambda: follower.snapshot.keys == {"b": key("2")})


async def test_a_follower_that_missed_changes_reloads(redis_url: str, redis_client: redis.Redis) -> None:
    everything(redis_client, 1)
    async with following(redis_url) as follower:
        await until(lambda: follower.snapshot.loaded)
        publisher = Publisher(redis_client)
        for number in range(50):
            publisher.put(Section.KEYS, f"k{number}", key(str(number)), version=2 + number)
        redis_client.xtrim(names.CHANGES, maxlen=1, approximate=False)
        await until(lambda: len(follower.snapshot.keys) == 50)


async def test_the_kept_snapshot_is_served_without_redis(
    redis_url: str, redis_client: redis.Redis, tmp_path: Path
) -> None:
    everything(redis_client, 1, a=key("1"))
    async with following(redis_url, tmp_path / "snapshot") as follower:
        await until(lambda: follower.snapshot.loaded)
    alone = Follower("redis://127.0.0.1:1/0", tmp_path / "snapshot")
    assert alone.load_from_disk()
    assert alone.snapshot.keys == {"a": key("1")}
    assert (tmp_path / "snapshot").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x80"])
async def test_an_unreadable_snapshot_is_no_snapshot(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "snapshot").write_bytes(content)
    follower = Follower("redis://127.0.0.1:1/0", tmp_path / "snapshot")
    assert not follower.load_from_disk()
    assert not follower.snapshot.loaded


@pytest.mark.parametrize("low", [0x7F, 0xFF, 0x7FFF, 0xFFFF_FFFF, 2**53 + 1])
def test_versions_are_compared_as_numbers(redis_client: redis.Redis, low: int) -> None:
    publisher = Publisher(redis_client)
    assert publisher.put(Section.KEYS, "a", key("1"), version=low) == 1
    assert publisher.put(Section.KEYS, "a", key("2"), version=low + 1) == 1
    assert publisher.put(Section.KEYS, "a", key("3"), version=low) == 0


def test_a_publication_that_would_never_win_says_what_it_has_to_beat(redis_client: redis.Redis) -> None:
    everything(redis_client, 900, a=key("new"))
    publisher = Publisher(redis_client)
    publisher.put(Section.KEYS, "b", key("newer"), version=905)
    with pytest.raises(VersionBehind) as caught:
        publisher.replace(Section.KEYS, {"a": key("restored")}, version=300)
    assert caught.value.seen == 905
    assert publisher.replace(Section.KEYS, {"a": key("restored")}, version=906) == 2
