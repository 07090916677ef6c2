"""Models and revisions over the API."""

from __future__ import annotations

import pytest

from freehold.registry.models import Revision
from freehold.registry.services import content_add, revision_commit
from freehold.registry.trees import Add
from freehold.tenancy.choices import Role
from freehold.tenancy.models import Tenant
from tests.factories.models_on_disk import model_files
from tests.factories.tenants import actor_in, make_endpoint, make_revision
from tests.integration.api.client import Api, api_of


@pytest.fixture
def pushed(acme: Tenant, api: Api) -> Revision:
    """`acme/real`, with real files."""
    actor = actor_in(acme)
    api.post("/models", {"name": "real"})
    operations = [
        Add(path=path, entry=content_add(actor=actor, tenant_id=acme.pk, content=content))
        for path, content in model_files().items()
    ]
    return revision_commit(actor=actor, tenant_id=acme.pk, repo="acme/real", operations=operations, message="weights")


def test_a_model_is_created_empty_listed_and_deleted(api: Api) -> None:
    made = api.post("/models", {"name": "tiny"})
    assert (made.status, made.body["name"]) == (201, "acme/tiny")
    assert made.headers["Location"] == f"/api/v1/models/{made.body['id']}"
    found = api.get(f"/models/{made.body['id']}").body
    assert [(ref["kind"], ref["name"]) for ref in found["refs"]] == [("branch", "main")]
    assert [model["id"] for model in api.get("/models").body["data"]] == [made.body["id"]]
    assert api.delete(f"/models/{made.body['id']}").status == 204
    assert api.get(f"/models/{made.body['id']}").problem == (404, "not_found", None)


@pytest.mark.parametrize("name", ["", "has space", "-x", "a--b", "a/b", "x.git", 5 * ["x"]])
def test_a_bad_name_is_refused(api: Api, name: object) -> None:
    assert api.post("/models", {"name": name}).problem == (400, "invalid_input", "name")


def test_a_developer_may_not_delete_a_model(acme: Tenant, api: Api) -> None:
    model = api.post("/models", {"name": "tiny"}).body
    assert api_of(acme, Role.DEVELOPER).delete(f"/models/{model['id']}").problem[0] == 403


def test_a_model_that_is_served_cannot_be_deleted(served: Tenant, api: Api) -> None:
    endpoint = make_endpoint(served)
    (model,) = api.get("/models").body["data"]
    answer = api.delete(f"/models/{model['id']}")
    assert answer.problem == (409, "conflict", None)
    assert endpoint.public_id in answer.body["detail"]


def test_revisions_carry_what_inspection_found_and_their_files(api: Api, pushed: Revision) -> None:
    (model,) = api.get("/models").body["data"]
    history = api.get(f"/models/{model['id']}/revisions").body["data"]
    assert [(revision["message"], revision["status"]) for revision in history] == [
        ("weights", "verified"),
        ("initial commit", "incomplete"),
    ]
    for name in ("main", pushed.commit_id, pushed.public_id):
        revision = api.get(f"/models/{model['id']}/revisions/{name}").body
        assert revision["commit_id"] == pushed.commit_id
        assert {file["path"] for file in revision["files"]} == set(model_files())
        assert all(len(file["sha256"]) == 64 for file in revision["files"])
        assert "Qwen3ForCausalLM" in str(revision["inspection"])


@pytest.mark.parametrize("name", ["nope", "0" * 40, "rev_nonsense", "feature%2Fx", "%00", "rev_%00"])
def test_an_unknown_revision_is_a_404(api: Api, name: str) -> None:
    model = api.post("/models", {"name": "tiny"}).body
    assert api.get(f"/models/{model['id']}/revisions/{name}").problem == (404, "not_found", None)


def test_a_revision_is_found_under_its_own_model_only(api: Api, pushed: Revision) -> None:
    other = api.post("/models", {"name": "other"}).body
    assert api.get(f"/models/{other['id']}/revisions/{pushed.public_id}").problem[0] == 404


def test_another_tenants_models_are_as_missing_as_none(acme: Tenant, api: Api, rival: Tenant, rival_api: Api) -> None:
    revision = make_revision(rival)
    (model,) = rival_api.get("/models").body["data"]
    assert api.get("/models").body["data"] == []
    for path in (
        f"/models/{model['id']}",
        f"/models/{model['id']}/revisions",
        f"/models/{model['id']}/revisions/main",
        f"/models/{model['id']}/revisions/{revision.public_id}",
    ):
        assert api.get(path).problem == (404, "not_found", None)
        assert rival_api.get(path).status == 200
    assert api.delete(f"/models/{model['id']}").problem == (404, "not_found", None)
    assert rival_api.get(f"/models/{model['id']}").status == 200
