"""Endpoints over the API: desired state in, desired and observed state out."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.registry.choices import RevisionStatus
from freehold.tenancy.choices import Role
from freehold.tenancy.models import Tenant
from tests.factories.tenants import make_revision
from tests.integration.api.client import Api, api_of

CHAT: dict[str, Any] = {"name": "chat", "model": "acme/tiny"}


def test_an_endpoint_is_created_with_everything_pinned(served: Tenant, api: Api) -> None:
    made = api.post("/endpoints", {**CHAT, "arguments": {"max_model_len": 1024}})
    assert made.status == 201
    endpoint = made.body
    assert made.headers["Location"] == f"/api/v1/endpoints/{endpoint['id']}"
    assert endpoint["model_name"] == "acme/chat"
    assert endpoint["model"] == "acme/tiny"
    assert len(endpoint["revision"]) == 40
    assert endpoint["arguments"] == {"max_model_len": 1024}
    assert (endpoint["billing_mode"], endpoint["kind"]) == ("tokens", "dedicated")
    assert (endpoint["replicas"], endpoint["ready_replicas"], endpoint["replica_list"]) == (1, 0, [])
    assert (endpoint["generation"], endpoint["observed_generation"]) == (1, 0)
    assert (endpoint["phase"], endpoint["conditions"]) == ("Pending", [])
    assert (endpoint["flavor"], endpoint["region"]) == ("cpu-local", "local")
    assert endpoint["engine_digest"] == "sha256:engine"
    assert len(endpoint["weight_digest"]) == 64
    assert api.get(f"/endpoints/{endpoint['id']}").body == endpoint
    assert api.get("/endpoints").body["data"] == [endpoint]


def test_another_number_of_replicas_is_a_new_generation(served: Tenant, api: Api) -> None:
    made = api.post("/endpoints", CHAT).body
    scaled = api.patch(f"/endpoints/{made['id']}", {"replicas": 3})
    assert (scaled.status, scaled.body["replicas"], scaled.body["generation"]) == (200, 3, 2)
    same = api.patch(f"/endpoints/{made['id']}", {"replicas": 3}).body
    assert same["generation"] == 2


def test_deletion_is_asked_for_and_takes_its_time(served: Tenant, api: Api) -> None:
    made = api.post("/endpoints", CHAT).body
    for _ in range(2):
        deleted = api.delete(f"/endpoints/{made['id']}")
        assert (deleted.status, deleted.body["phase"]) == (202, "Deleting")
    assert api.patch(f"/endpoints/{made['id']}", {"replicas": 2}).problem == (409, "conflict", None)


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"name": "No Good"}, 400, "name"),
        ({"name": None}, 400, "name"),
        ({"model": 7 * ["x"]}, 400, "model"),
        ({"billing_mode": "free"}, 400, "billing_mode"),
        ({"replicas": -1}, 400, "replicas"),
        ({"replicas": "many"}, 400, "replicas"),
        ({"replicas": 1000}, 400, "replicas"),
        ({"replicas": 60}, 400, "replicas"),
        ({"flavor": "b300"}, 400, "flavor"),
        ({"region": "moon"}, 400, "region"),
        ({"arguments": {"max_model_len": "long"}}, 422, "arguments.max_model_len"),
        ({"arguments": {"trust_remote_code": 1}}, 422, "arguments.trust_remote_code"),
        ({"arguments": []}, 400, "arguments"),
        ({"argumnts": {}}, 400, "argumnts"),
        ({"tenant": "rival"}, 400, "tenant"),
    ],
)
def test_bad_input_names_the_field(served: Tenant, api: Api, change: dict[str, Any], status: int, field: str) -> None:
    answer = api.post("/endpoints", {**CHAT, **change})
    assert answer.problem[0] == status
    assert answer.body["field"] == field
    assert api.get("/endpoints").body["data"] == []


@pytest.mark.parametrize("body", [[], "x", 1, None])
def test_a_body_that_is_no_object_is_refused(api: Api, body: object) -> None:
    assert api.post("/endpoints", body).problem[:2] == (400, "invalid_input")


@pytest.mark.parametrize("body", [{}, {"replicas": None}, {"replicas": 1, "model": "acme/other"}])
def test_only_replicas_can_be_patched(served: Tenant, api: Api, body: dict[str, Any]) -> None:
    made = api.post("/endpoints", CHAT).body
    assert api.patch(f"/endpoints/{made['id']}", body).problem[:2] == (400, "invalid_input")


def test_a_name_is_used_once(served: Tenant, api: Api) -> None:
    api.post("/endpoints", CHAT)
    assert api.post("/endpoints", CHAT).problem == (409, "conflict", "name")


def test_a_revision_that_lacks_something_is_not_served(served: Tenant, api: Api) -> None:
    make_revision(served, "partial", status=RevisionStatus.INCOMPLETE)
    assert api.post("/endpoints", {**CHAT, "model": "acme/partial"}).problem == (409, "conflict", "revision")


def test_a_missing_model_or_revision_is_a_404(served: Tenant, api: Api) -> None:
    assert api.post("/endpoints", {**CHAT, "model": "acme/none"}).problem[0] == 404
    assert api.post("/endpoints", {**CHAT, "revision": "none"}).problem[0] == 404


def test_another_tenants_model_is_missing_even_where_ours_has_its_name(served: Tenant, api: Api, rival: Tenant) -> None:
    make_revision(rival)
    foreign = api.post("/endpoints", {**CHAT, "model": "rival/tiny"})
    assert foreign.problem == (404, "not_found", "model")


def test_another_tenants_endpoint_is_as_missing_as_none(served: Tenant, api: Api, rival_api: Api) -> None:
    made = api.post("/endpoints", CHAT).body
    address = f"/endpoints/{made['id']}"
    missing = f"/endpoints/{made['id'][:-4]}0000"
    for path in (address, missing, "/endpoints/nonsense", "/endpoints/key_" + made["id"][3:]):
        assert rival_api.get(path).problem == (404, "not_found", None)
        assert rival_api.get(f"{path}/logs").problem == (404, "not_found", None)
        assert rival_api.patch(path, {"replicas": 0}).problem == (404, "not_found", None)
        assert rival_api.delete(path).problem == (404, "not_found", None)
    assert rival_api.get("/usage", endpoint=made["id"]).problem[0] == 404
    assert rival_api.get("/endpoints").body["data"] == []
    assert api.get(address).body == made


def test_a_developer_may_serve_models(served: Tenant) -> None:
    assert api_of(served, Role.DEVELOPER).post("/endpoints", CHAT).status == 201


def test_the_same_post_twice_is_one_endpoint(served: Tenant, api: Api) -> None:
    first = api.post("/endpoints", CHAT, key="deploy-1")
    assert api.post("/endpoints", CHAT, key="deploy-1").body == first.body
    assert len(api.get("/endpoints").body["data"]) == 1
