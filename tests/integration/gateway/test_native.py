"""Real gateways with and without compiled modules: that they serve, which of it they say that they run, and what a
reload makes of a build that has come, gone or aged meanwhile."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from freehold.common import env
from freehold.gateway import native
from tests.integration.gateway.conftest import Process, publish, until

if TYPE_CHECKING:
    import redis

    from tests.fakes.engine import Engine

pytestmark = pytest.mark.native

CHAT: dict[str, Any] = {"model": "acme/chat", "messages": [{"role": "user", "content": "hi"}]}
PATH = "/v1/chat/completions"

with_and_without = pytest.mark.parametrize(
    ("gateway", "compiled"),
    [({"GATEWAY_NATIVE": "require"}, 1), ({"GATEWAY_NATIVE": "off"}, 0)],
    indirect=["gateway"],
    ids=["require", "off"],
)


@pytest.fixture
def platform(tmp_path: Path) -> Path:
    """A copy of what a gateway runs, with an empty folder for builds."""
    copy = tmp_path / "platform"
    for package in ("common", "wire", "gateway"):
        source = native.ROOT / "freehold" / package
        shutil.copytree(source, copy / "freehold" / package, ignore=shutil.ignore_patterns("_native", "__pycache__"))
    shutil.copy(native.ROOT / "freehold" / "__init__.py", copy / "freehold")
    (copy / "freehold" / "gateway" / "_native").mkdir()
    return copy


def build_of(platform: Path) -> Path:
    """Where the copy would have the build that fits."""
    found = native.find()
    return platform / "freehold" / "gateway" / "_native" / found.name


async def reload(gateway: Process, event: str = "gateway_reloaded") -> None:
    """SIGHUP; returns when the log says what came of it, once more than before."""
    before = gateway.log().count(f'"{event}"')
    gateway.parent.send_signal(signal.SIGHUP)
    await until(lambda: gateway.log().count(f'"{event}"') > before, "a reload")


async def is_compiled(gateway: Process) -> bool:
    """What the process that serves says, once it does."""
    await until(gateway.is_ready, "a gateway that is ready")
    assert (await gateway.http.post(PATH, json=CHAT)).status_code == 200
    return await gateway.gauge("native") == 1


@with_and_without
async def test_it_serves_and_says_which_it_is(gateway: Process, compiled: int) -> None:
    assert (await gateway.http.post(PATH, json=CHAT)).status_code == 200
    async with gateway.http.stream("POST", PATH, json={**CHAT, "stream": True}) as stream:
        assert (await stream.aread()).endswith(b"data: [DONE]\n\n")
    assert await gateway.gauge("native") == compiled
    assert f'"native": {"true" if compiled else "false"}' in gateway.log()


@pytest.mark.skipif("native" not in env.listing("FREEHOLD_REQUIRE"), reason="FREEHOLD_REQUIRE does not name native")
async def test_where_compiled_gateways_are_required_all_tests_have_them(gateway: Process) -> None:
    assert await gateway.gauge("native") == 1


async def test_a_reload_runs_the_build_that_fits_the_source_it_finds(
    platform: Path, tmp_path: Path, redis_url: str, redis_client: redis.Redis, engine: Engine
) -> None:
    publish(redis_client, engine.port)
    settings = {"PYTHONPATH": str(platform), "GATEWAY_NATIVE": "auto"}
    async with Process(tmp_path / "state", redis_url, **settings) as gateway:
        assert not await is_compiled(gateway)
        assert '"reason": "There is none.", "event": "gateway_not_compiled"' in gateway.log()
        shutil.copytree(native.find(), build_of(platform))
        await reload(gateway)
        assert await is_compiled(gateway)
        with (platform / "freehold/gateway/slots.py").open("a") as source:
            source.write("\n# Edited.\n")
        await reload(gateway)
        assert not await is_compiled(gateway)
        assert "freehold/gateway/slots.py is not what it was when it was made." in gateway.log()


async def test_a_gateway_that_requires_a_build_keeps_the_old_processes_where_it_has_gone(
    platform: Path, tmp_path: Path, redis_url: str, redis_client: redis.Redis, engine: Engine
) -> None:
    publish(redis_client, engine.port)
    shutil.copytree(native.find(), build_of(platform))
    settings = {"PYTHONPATH": str(platform), "GATEWAY_NATIVE": "require"}
    async with Process(tmp_path / "state", redis_url, **settings) as gateway:
        before = gateway.pids
        shutil.rmtree(build_of(platform))
        await reload(gateway, "gateway_reload_failed")
        assert "no compiled gateway fits. There is none." in gateway.log()
        assert await is_compiled(gateway)
        assert gateway.pids == before
