"""The journal of a gateway that is gone: its usage is billed exactly once, whatever is killed meanwhile."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import msgspec
import pytest
from django.db.models import Sum

from freehold.common import ids
from freehold.db.rls import system_scope
from freehold.gateway import replay
from freehold.gateway.auth import Caller
from freehold.gateway.journal import Journal
from freehold.gateway.meter import Meter, Outcome
from freehold.gateway.slots import Slots
from freehold.gateway.state import hold
from freehold.metering.models import GatewayWatermark, UsageEvent, UsageReject
from freehold.metering.services import usage_drain
from freehold.wire import names
from freehold.wire.records import KeyRecord, TenantRecord
from tests.factories.usage import ENDPOINT, make_tenant
from tests.integration.gateway.conftest import ROOT
from tests.unit.gateway.conftest import ROUTE

if TYPE_CHECKING:
    from pathlib import Path

    import redis

    from freehold.tenancy.models import Tenant

pytestmark = pytest.mark.usefixtures("committed_db")

GATEWAY = "freehold-gateway-2"
DEADLINE = 60.0


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant()


@pytest.fixture
def environment(tmp_path: Path, redis_url: str) -> dict[str, str]:
    """What the chart's Job gives the command."""
    return {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT / "platform"),
        "REDIS_URL": redis_url,
        "GATEWAY_STATE": str(tmp_path / "state"),
        "GATEWAY_ID": GATEWAY,
        "GATEWAY_RESEND_SECONDS": "1",
    }


def abandon(state: Path, tenant: Tenant, *, settled: int, cut_off: int) -> None:
    """What a killed gateway leaves: settled requests of 3 tokens each, and some that were still streaming, with 2."""
    state.mkdir(exist_ok=True)
    journal = Journal(state / "journal", segment_bytes=4_000, reserve_bytes=0)
    slots = Slots(state / "slots", 64)
    meter = Meter(journal, slots, "local")
    caller = Caller(KeyRecord(id="key_1", tenant=tenant.public_id), TenantRecord(slug=tenant.slug, cache_salt="salt"))
    route = msgspec.structs.replace(ROUTE, endpoint=ids.encode("ep", ENDPOINT), tenant=tenant.public_id)
    for number in range(settled + cut_off):
        bill = meter.open(ids.uuid7_hex(), caller, route, model="acme/chat", path="/v1/chat/completions")
        meter.flush()
        bill.relayed()
        bill.slot.choice(0, 3 if number < settled else 2)
        if number < settled:
            bill.settle(Outcome.OK, "rpl_1")
    slots.close()


def start(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """The command, running."""
    return subprocess.Popen(
        [sys.executable, "-m", "freehold.gateway.replay"], env=environment, cwd=ROOT, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen[bytes], client: redis.Redis) -> int:
    """Drains, as the workers do, until the command ends. Returns its exit code."""
    deadline = time.monotonic() + DEADLINE
    while process.poll() is None:
        assert time.monotonic() < deadline, "the replay does not end"
        usage_drain(client=client)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    process.communicate()
    return process.returncode


def billed() -> tuple[int, int]:
    """(events, tokens); nothing was refused on the way."""
    with system_scope("test"):
        assert not UsageReject.objects.exists()
        return UsageEvent.objects.count(), UsageEvent.objects.aggregate(all=Sum("completion_tokens"))["all"] or 0


def test_an_orphaned_journal_is_billed_under_its_own_gateway_and_what_was_open_from_its_slots(
    tmp_path: Path, tenant: Tenant, environment: dict[str, str], redis_client: redis.Redis
) -> None:
    abandon(tmp_path / "state", tenant, settled=40, cut_off=3)
    assert finish(start(environment), redis_client) == replay.DONE
    assert billed() == (43, 40 * 3 + 3 * 2)
    assert set(GatewayWatermark.objects.values_list("gateway", "sequence")) == {(GATEWAY, 43)}
    with system_scope("test"):
        assert UsageEvent.objects.filter(outcome="recovered").count() == 3

    again = start(environment)
    again.communicate(timeout=DEADLINE)
    assert again.returncode == replay.DONE
    assert redis_client.xlen(names.USAGE) == 0, "what was said is not said again"


def test_killed_at_any_moment_and_run_again_it_bills_once(
    tmp_path: Path, tenant: Tenant, environment: dict[str, str], redis_client: redis.Redis
) -> None:
    abandon(tmp_path / "state", tenant, settled=200, cut_off=8)
    chance = random.Random(4)
    for _ in range(6):
        process = start(environment)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1 + chance.random() * 0.7)
        process.kill()
        process.communicate()
        if chance.random() < 0.5:
            usage_drain(client=redis_client)
    assert finish(start(environment), redis_client) == replay.DONE
    assert billed() == (208, 200 * 3 + 8 * 2)


def test_while_nobody_confirms_it_gives_up_in_time_and_the_next_run_ends_it(
    tmp_path: Path, tenant: Tenant, environment: dict[str, str], redis_client: redis.Redis
) -> None:
    abandon(tmp_path / "state", tenant, settled=2, cut_off=0)
    process = start({**environment, "GATEWAY_REPLAY_SECONDS": "0.5"})
    _, said = process.communicate(timeout=DEADLINE)
    assert process.returncode == replay.UNFINISHED
    assert b"2 records of freehold-gateway-2 are not confirmed" in said
    assert finish(start(environment), redis_client) == replay.DONE
    assert billed() == (2, 6)


def test_told_to_stop_it_stops_at_once(
    tmp_path: Path, tenant: Tenant, environment: dict[str, str], redis_client: redis.Redis
) -> None:
    abandon(tmp_path / "state", tenant, settled=1, cut_off=0)
    process = start(environment)
    deadline = time.monotonic() + DEADLINE
    while not redis_client.exists(names.USAGE):
        assert time.monotonic() < deadline, "nothing is shipped"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    process.terminate()
    process.communicate(timeout=10)
    assert process.returncode == replay.UNFINISHED


def test_a_folder_in_use_is_left_alone(tmp_path: Path, tenant: Tenant, environment: dict[str, str]) -> None:
    abandon(tmp_path / "state", tenant, settled=1, cut_off=0)
    held = hold(tmp_path / "state")
    assert replay.run(environment) == replay.IN_USE
    os.close(held)


def test_a_folder_without_a_journal_has_nothing_to_replay(tmp_path: Path, environment: dict[str, str]) -> None:
    assert replay.run(environment) == replay.DONE
    assert not (tmp_path / "state").exists()
    (tmp_path / "state" / "lost+found").mkdir(parents=True)
    assert replay.run(environment) == replay.DONE


def test_the_gateway_it_replays_must_be_named(environment: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    del environment["GATEWAY_ID"]
    assert replay.run(environment) == replay.UNREADABLE
    assert "GATEWAY_ID" in capsys.readouterr().err
