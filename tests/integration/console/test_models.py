"""Models on the console: what they are, and what they lack."""

from __future__ import annotations

from typing import Any

from freehold.db.rls import tenant_scope
from freehold.registry.choices import RevisionStatus
from freehold.registry.models import Revision
from freehold.serving.models import Endpoint
from freehold.tenancy.models import Tenant
from tests.factories.tenants import make_revision, make_tenant
from tests.integration.console.people import Person, sign_in

FACTS: dict[str, Any] = {
    "architecture": "Qwen3ForCausalLM",
    "task": "generate",
    "parameters": 1_720_000_000,
    "dtypes": {"BF16": 1_720_000_000},
    "max_model_len": 40_960,
    "licence": "apache-2.0",
    "total_bytes": 3_440_000_000,
    "files": 7,
}


def _inspected(revision: Revision, **facts: Any) -> str:
    with tenant_scope(revision.tenant_id):
        Revision.objects.filter(pk=revision.pk).update(inspection={**FACTS, **facts})
        return f"/console/models/{revision.repo.public_id}"


def test_without_models_the_page_says_how_to_upload_one(acme: Tenant) -> None:
    empty = make_tenant("empty")
    page = sign_in("eve@empty.example", (empty, "developer")).get("/console/models").text
    assert "No model yet" in page
    assert "hf upload empty/my-model" in page


def test_a_model_shows_its_inspection_revisions_and_endpoints(acme: Tenant, chat: Endpoint, admin: Person) -> None:
    revision = make_revision(acme, "qwen")
    path = _inspected(revision)
    listed = admin.get("/console/models").text
    assert path in listed
    assert "1.72 B" in listed
    page = admin.get(path).text
    for fact in ("Qwen3ForCausalLM", "BF16", "40,960 tokens", "apache-2.0", "3.2 GiB", revision.digest, "verified"):
        assert fact in page
    assert "No endpoint" in page
    with tenant_scope(acme.pk):
        served = chat.spec.revision.repo.public_id
    assert f"/console/endpoints/{chat.public_id}" in admin.get(f"/console/models/{served}").text


def test_an_incomplete_revision_says_what_it_lacks(acme: Tenant, admin: Person) -> None:
    revision = make_revision(acme, "half", status=RevisionStatus.INCOMPLETE)
    page = admin.get(_inspected(revision, missing=["*.safetensors"])).text
    assert "It lacks: *.safetensors" in page
    assert "Deploy it" not in page


def test_a_foreign_model_is_not_found(rival: Tenant, admin: Person) -> None:
    revision = make_revision(rival, "secret")
    assert admin.get(_inspected(revision)).status == 404
    assert "secret" not in admin.get("/console/models").text
