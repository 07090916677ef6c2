"""The worker of the queue `transfers`, as supervisord starts it: a hint is enough, and a signal ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from django.conf import settings

from freehold.db.rls import tenant_scope
from freehold.onebox.layout import Layout
from freehold.onebox.supervisor import programs
from freehold.registry import services
from freehold.registry.models import Blob
from freehold.wire import hints
from tests.factories.tenants import actor_in, make_tenant

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.usefixtures("committed_db")


@pytest.fixture
def worker(tmp_path: Path, redis_client: redis.Redis) -> Iterator[subprocess.Popen[bytes]]:
    """The program, over an object store of its own."""
    found = programs(Layout.of(tmp_path), postgres=[], redis=[])
    command = next(program.command for program in found if program.name == "transfers")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), str(ROOT)]),
        "OBJECT_STORE_PATH": str(tmp_path / "objects"),
    }
    process = subprocess.Popen(command, env=environment, cwd=ROOT, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait(20)


def test_a_hint_has_content_hashed(
    worker: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "OBJECT_STORE_PATH", tmp_path / "objects")
    tenant = make_tenant()
    services.content_add(actor=actor_in(tenant), tenant_id=tenant.pk, content=b"weights")
    with tenant_scope(tenant.pk):
        Blob.objects.update(verified_at=None)
    assert hints.send(hints.VERIFY, queue=hints.TRANSFERS)
    deadline = time.monotonic() + 60
    while not _is_verified(tenant.pk):
        assert worker.poll() is None, "the worker ended"
        assert time.monotonic() < deadline, "nobody has hashed it within a minute"
        time.sleep(0.1)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0


def _is_verified(tenant_id: uuid.UUID) -> bool:
    with tenant_scope(tenant_id):
        return Blob.objects.filter(verified_at__isnull=False).exists()
