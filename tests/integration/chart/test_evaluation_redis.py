"""The chart's own Redis: a server takes its configuration, and is what gateway and workers ask of a Redis."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from freehold.onebox.redis import program
from tests.factories import charts
from tests.factories.charts import pick
from tests.factories.ports import free_port

SECONDS = 15.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, str]]:
    """Port and password of a server that runs with the chart's configuration."""
    secret = pick(charts.objects(charts.values("evaluation")), "Secret", "freehold-redis")["stringData"]
    port = free_port()
    configuration = tmp_path / "redis.conf"
    here = f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nset-proc-title no\n"
    configuration.write_text(secret["redis.conf"].replace("dir /data\n", "") + here)
    process = subprocess.Popen(
        [str(program(near=tmp_path)), str(configuration)],
        stdout=subprocess.DEVNULL,
        env={"FREEHOLD_INSTANCE": os.environ["FREEHOLD_INSTANCE"]},
    )
    try:
        yield port, secret["password"]
    finally:
        process.terminate()
        process.wait(SECONDS)


def connected(port: int, password: str) -> redis.Redis:
    client = redis.Redis(port=port, password=password)
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            client.ping()
        except redis.exceptions.ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return client


def test_it_evicts_nothing_and_writes_to_disk(server: tuple[int, str]) -> None:
    with connected(*server) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("save") == {"save": ""}


def test_nobody_gets_in_without_the_password(server: tuple[int, str]) -> None:
    connected(*server).close()
    with redis.Redis(port=server[0]) as stranger, pytest.raises(redis.exceptions.AuthenticationError):
        stranger.ping()
