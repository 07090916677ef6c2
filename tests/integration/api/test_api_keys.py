"""Keys: made once, listed without their secret, revoked for good."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import redis

from freehold.common import clock
from freehold.tenancy.choices import Role
from freehold.tenancy.models import Tenant
from freehold.wire import names
from tests.integration.api.client import Api, api_of


def test_a_new_key_shows_its_secret_once_and_works(api: Api) -> None:
    made = api.post("/api-keys", {"name": "ci", "role": "developer"})
    assert made.status == 201
    assert made.body["secret"].startswith("fh_")
    assert made.body["secret"].startswith(made.body["hint"])
    assert Api(made.body["secret"]).get("/tenants/me").body["role"] == "developer"
    listed = api.get("/api-keys").body["data"]
    assert [key["name"] for key in listed] == ["ci", "test admin"]
    assert all("secret" not in key for key in listed)


def test_a_key_may_be_narrowed_to_models_and_a_time(api: Api) -> None:
    expiry = (clock.now() + timedelta(days=1)).isoformat()
    made = api.post(
        "/api-keys", {"name": "app", "role": "inference", "models_allowed": ["acme/chat"], "expires_at": expiry}
    )
    assert made.status == 201
    assert made.body["models_allowed"] == ["acme/chat"]
    assert made.body["expires_at"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"role": "admin"}, "name"),
        ({"name": "", "role": "admin"}, "name"),
        ({"name": "a", "role": "owner"}, "role"),
        ({"name": "a", "role": "admin", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "a", "role": "admin", "expires_at": "soon"}, "expires_at"),
        ({"name": "a", "role": "admin", "models_allowed": "all"}, "models_allowed"),
        ({"name": "a", "role": "admin", "models_allowed": ["a", {}]}, "models_allowed.1"),
        ({"name": "a\x00", "role": "admin"}, "name"),
        ({"name": "a\ud800", "role": "admin"}, "name"),
        ({"name": "a", "role": "admin", "model_allowed": []}, "model_allowed"),
    ],
)
def test_bad_input_names_the_field(api: Api, body: dict[str, object], field: str) -> None:
    answer = api.post("/api-keys", body)
    assert answer.problem == (400, "invalid_input", field)
    assert answer.body["errors"][0]["field"] == field


def test_every_bad_field_is_named_at_once(api: Api) -> None:
    errors = api.post("/api-keys", {"expires_at": "soon"}).body["errors"]
    assert {error["field"] for error in errors} == {"name", "role", "expires_at"}


def test_a_developer_may_look_at_keys_but_make_none(acme: Tenant) -> None:
    developer = api_of(acme, Role.DEVELOPER)
    assert developer.get("/api-keys").status == 200
    assert developer.post("/api-keys", {"name": "a", "role": "viewer"}).problem[0] == 403


def test_revoking_twice_is_revoking_once(api: Api) -> None:
    made = api.post("/api-keys", {"name": "ci", "role": "developer"}).body
    assert api.delete(f"/api-keys/{made['id']}").status == 204
    first = api.get("/api-keys").body["data"][0]["revoked_at"]
    assert first
    assert api.delete(f"/api-keys/{made['id']}").status == 204
    assert api.get("/api-keys").body["data"][0]["revoked_at"] == first


def test_another_tenants_key_is_as_missing_as_none(api: Api, rival_api: Api) -> None:
    theirs = rival_api.get("/api-keys").body["data"][0]["id"]
    foreign = api.delete(f"/api-keys/{theirs}")
    missing = api.delete(f"/api-keys/{theirs[:-4]}0000")
    assert foreign.problem == missing.problem == (404, "not_found", None)
    assert foreign.body["detail"] == missing.body["detail"]
    assert rival_api.get("/tenants/me").status == 200


@pytest.mark.usefixtures("committed_db")
def test_gateways_learn_of_a_key_and_of_its_revocation(redis_client: redis.Redis) -> None:
    from tests.factories.tenants import make_tenant

    api = api_of(make_tenant())
    made = api.post("/api-keys", {"name": "app", "role": "inference"}).body
    section = names.section(names.Section.KEYS)
    records: dict[Any, Any] = redis_client.hgetall(section)
    (field,) = [field for field, record in records.items() if made["id"].encode() in record]
    assert api.delete(f"/api-keys/{made['id']}").status == 204
    tombstone = redis_client.hget(section, field.decode())
    assert tombstone is not None
    assert len(tombstone) == 8  # a version alone withdraws


def test_a_restricted_key_makes_no_freer_one(api: Api, acme: Tenant) -> None:
    def by(days: int) -> str:
        return (clock.now() + timedelta(days=days)).isoformat()

    admin = {"name": "x", "role": "admin"}
    limited = Api(api.post("/api-keys", {**admin, "models_allowed": ["acme/a"]}).body["secret"])
    models: list[dict[str, object]] = [{}, {"models_allowed": None}, {"models_allowed": ["acme/a", "acme/b"]}]
    for more in models:
        assert limited.post("/api-keys", {**admin, **more}).problem == (403, "permission_denied", "models_allowed")
    assert limited.post("/api-keys", {**admin, "models_allowed": ["acme/a"]}).status == 201
    mortal = Api(api.post("/api-keys", {**admin, "expires_at": by(2)}).body["secret"])
    ends: list[dict[str, object]] = [{}, {"expires_at": None}, {"expires_at": by(3)}]
    for more in ends:
        assert mortal.post("/api-keys", {**admin, **more}).problem == (403, "permission_denied", "expires_at")
    assert mortal.post("/api-keys", {**admin, "expires_at": by(1)}).status == 201
