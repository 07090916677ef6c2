"""Probes of the web process: by the pod's address, in every state of what lies behind it."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from django.db import DatabaseError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client

from freehold.wire import connection as wire

POD = "10.4.7.9:8400"


@pytest.fixture
def probe() -> Client:
    """As kubelet asks: by an address that is none of ALLOWED_HOSTS."""
    return Client(headers={"host": POD})


@pytest.mark.django_db
def test_ready_is_who_has_a_database_with_the_schema_of_this_code(probe: Client, redis_client: redis.Redis) -> None:
    answer = probe.get("/readyz")
    assert (answer.status_code, answer.content) == (200, b"ready\nredis answers\n")


def test_alive_needs_no_database(probe: Client) -> None:
    assert probe.get("/healthz").status_code == 200


@pytest.mark.django_db
def test_without_redis_the_console_stays_in_service(probe: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "client", lambda: redis.Redis.from_url("redis://127.0.0.1:1/0"))
    answer = probe.get("/readyz")
    assert answer.status_code == 200
    assert b"redis does not answer" in answer.content


@pytest.mark.django_db
def test_a_schema_that_is_behind_is_not_ready_until_it_is_there(redis_client: redis.Redis) -> None:
    probe = Client(headers={"host": POD})
    latest = MigrationRecorder.Migration.objects.filter(app="billing").latest("id")
    MigrationRecorder.Migration.objects.filter(pk=latest.pk).delete()
    answer = probe.get("/readyz")
    assert answer.status_code == 503
    assert b"lacks 1 migrations: run freehold_migrate" in answer.content
    MigrationRecorder.Migration.objects.create(app=latest.app, name=latest.name)
    assert probe.get("/readyz").status_code == 200


@pytest.mark.django_db
def test_without_its_database_it_is_not_ready_and_alive(probe: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> None:
        raise DatabaseError

    monkeypatch.setattr(connection, "cursor", away)
    assert probe.get("/readyz").status_code == 503
    assert probe.get("/healthz").status_code == 200


@pytest.mark.django_db
def test_everything_else_still_wants_a_known_host(probe: Client) -> None:
    assert probe.get("/api/v1/models").status_code == 400
