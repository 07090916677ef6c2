"""The embedded Redis: it keeps everything and lets nobody in without the password."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import redis

from freehold.onebox.reap import find
from freehold.onebox.redis import EmbeddedRedis


def test_it_never_evicts(redis_client: redis.Redis) -> None:
    assert redis_client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_it_wants_the_password(redis_url: str) -> None:
    address = redis_url.rpartition("@")[2]
    with redis.Redis.from_url(f"redis://{address}") as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_an_installations_redis_writes_to_disk_every_second(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "redis", port=1, password="word")
    server.initialise()
    configuration = (tmp_path / "redis" / "redis.conf").read_text()
    assert "appendonly yes" in configuration
    assert "appendfsync everysec" in configuration
    assert (tmp_path / "redis" / "redis.conf").stat().st_mode & 0o777 == 0o600


def test_it_can_be_found_by_the_mark_in_its_environment(redis_client: redis.Redis) -> None:
    pid = redis_client.info("server")["process_id"]
    assert pid in {found.pid for found in find(os.environ["FREEHOLD_INSTANCE"])}
