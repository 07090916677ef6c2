"""The same POST twice is one POST."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection
from django.test import Client

from freehold.api import idempotency
from freehold.api.models import IdempotencyRecord
from freehold.common import clock
from freehold.db.rls import tenant_scope
from freehold.onebox.postgres import APP, EmbeddedPostgres
from freehold.registry import services
from freehold.tenancy.choices import Role
from freehold.tenancy.models import Tenant
from tests.integration.api.client import Api, api_of


def test_the_same_key_replays_the_answer_and_does_nothing(api: Api) -> None:
    first = api.post("/models", {"name": "tiny"}, key="k1")
    again = api.post("/models", {"name": "tiny"}, key="k1")
    assert (again.status, again.body) == (first.status, first.body)
    assert first.status == 201
    assert again.headers["Location"] == first.headers["Location"]
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(api.get("/models").body["data"]) == 1


def test_without_a_key_the_work_is_done_again(api: Api) -> None:
    assert api.post("/models", {"name": "tiny"}).status == 201
    assert api.post("/models", {"name": "tiny"}).problem == (409, "conflict", "name")


def test_a_replayed_secret_is_the_same_and_is_encrypted_at_rest(acme: Tenant, api: Api) -> None:
    body = {"name": "ci", "role": "viewer"}
    secret = api.post("/api-keys", body, key="k1").body["secret"]
    assert api.post("/api-keys", body, key="k1").body["secret"] == secret
    with tenant_scope(acme.pk), connection.cursor() as cursor:
        cursor.execute("SELECT t::text FROM api_idempotencyrecord t")
        (row,) = cursor.fetchone()
    assert secret not in row
    assert len(api.get("/api-keys").body["data"]) == 2


def test_another_body_under_the_same_key_is_refused(api: Api) -> None:
    api.post("/models", {"name": "tiny"}, key="k1")
    assert api.post("/models", {"name": "other"}, key="k1").problem == (
        422,
        "idempotency_key_reused",
        "Idempotency-Key",
    )
    assert api.post("/api-keys", {"name": "a", "role": "viewer"}, key="k1").problem[1] == "idempotency_key_reused"


def test_the_order_of_fields_is_no_difference(api: Api) -> None:
    first = api.post("/api-keys", {"name": "a", "role": "viewer"}, key="k1")
    assert api.post("/api-keys", {"role": "viewer", "name": "a"}, key="k1").body == first.body


def test_another_caller_is_not_shown_the_answer(acme: Tenant, api: Api) -> None:
    body = {"name": "ci", "role": "viewer"}
    assert api.post("/api-keys", body, key="k1").status == 201
    assert api_of(acme).post("/api-keys", body, key="k1").problem[1] == "idempotency_key_reused"
    assert api_of(acme, Role.VIEWER).post("/api-keys", body, key="k1").problem[0] == 403


def test_tenants_do_not_meet_in_a_key(api: Api, rival_api: Api) -> None:
    assert api.post("/models", {"name": "tiny"}, key="k1").body["name"] == "acme/tiny"
    assert rival_api.post("/models", {"name": "tiny"}, key="k1").body["name"] == "rival/tiny"


def test_a_refusal_after_the_work_began_is_replayed(api: Api) -> None:
    model = api.post("/models", {"name": "tiny"}).body
    first = api.post("/models", {"name": "tiny"}, key="k1")
    assert first.problem == (409, "conflict", "name")
    api.delete(f"/models/{model['id']}")
    again = api.post("/models", {"name": "tiny"}, key="k1")
    assert (again.status, again.body) == (409, first.body)
    assert again.headers["Content-Type"] == "application/problem+json"


def test_bad_input_is_not_kept(api: Api) -> None:
    assert api.post("/models", {"name": "no good"}, key="k1").problem == (400, "invalid_input", "name")
    assert api.post("/models", {}, key="k1").problem == (400, "invalid_input", "name")
    assert api.post("/models", {"name": "good"}, key="k1").status == 201


def test_an_unforeseen_failure_is_replayed_and_leaves_nothing_done(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    real = services.model_create

    def fails_late(**arguments: Any) -> Any:
        real(**arguments)
        raise RuntimeError("a secret of ours")

    monkeypatch.setattr(services, "model_create", fails_late)
    first = api.post("/models", {"name": "tiny"}, key="k1")
    assert first.problem == (500, "internal", None)
    assert "secret of ours" not in str(first.body)
    monkeypatch.undo()
    assert api.post("/models", {"name": "tiny"}, key="k1").body == first.body
    assert api.get("/models").body["data"] == []


def test_trouble_of_the_database_is_not_kept(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**arguments: Any) -> Any:
        raise OperationalError("the server went away")

    monkeypatch.setattr(services, "model_create", fails)
    assert api.post("/models", {"name": "tiny"}, key="k1").problem[0] == 500
    monkeypatch.undo()
    assert api.post("/models", {"name": "tiny"}, key="k1").status == 201


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_has_1_to_255_characters(api: Api, key: str) -> None:
    assert api.post("/models", {"name": "tiny"}, key=key).problem == (400, "invalid_input", "Idempotency-Key")
    assert api.post("/models", {"name": "tiny"}, key="x" * 255).status == 201


def test_while_the_first_runs_the_second_is_told_to_wait(acme: Tenant, api: Api, postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.url(APP, "freehold_test")) as first:
        first.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"idempotency:{acme.pk}:k1"])
        assert api.post("/models", {"name": "tiny"}, key="k1").problem == (409, "idempotency_key_in_use", None)
        assert api.post("/models", {"name": "else"}, key="k2").status == 201
    assert api.post("/models", {"name": "tiny"}, key="k1").status == 201


def test_answers_are_kept_for_a_day_and_then_dropped(acme: Tenant, api: Api) -> None:
    api.post("/models", {"name": "tiny"}, key="k1")
    assert idempotency.records_purge() == 0
    assert idempotency.records_purge(now=clock.now() + timedelta(hours=25)) == 1
    assert api.post("/models", {"name": "tiny"}, key="k1").problem == (409, "conflict", "name")


def test_an_outdated_answer_is_not_replayed(acme: Tenant, api: Api) -> None:
    api.post("/models", {"name": "tiny"}, key="k1")
    with tenant_scope(acme.pk):
        IdempotencyRecord.objects.update(created_at=clock.now() - timedelta(hours=25))
    assert api.post("/models", {"name": "other"}, key="k1").status == 201


@pytest.mark.usefixtures("committed_db")
def test_many_at_once_do_the_work_once() -> None:
    """Real threads, connections and commits: one does it, the others wait for another time or see its answer."""
    from tests.factories.tenants import make_tenant

    secret = api_of(make_tenant()).secret
    barrier = threading.Barrier(6)

    def post(_: int) -> tuple[int, str]:
        barrier.wait()
        try:
            answer = Api(secret, Client()).post("/models", {"name": "tiny"}, key="k1")
        finally:
            connection.close()
        return answer.status, answer.body.get("id") or answer.body["code"]

    with ThreadPoolExecutor(6) as pool:
        answers = set(pool.map(post, range(6)))
    made = {body for status, body in answers if status == 201}
    assert len(made) == 1
    assert answers - {(201, *made)} <= {(409, "idempotency_key_in_use")}
    assert Api(secret).post("/models", {"name": "tiny"}, key="k1").body["id"] in made
    assert len(Api(secret).get("/models").body["data"]) == 1
