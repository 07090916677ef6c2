"""Models on the console: the list, and what one is, lacks, or is refused for."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.common import ids
from freehold.console.views import models
from freehold.db.rls import tenant_scope
from freehold.registry.choices import RevisionStatus
from freehold.registry.models import Blob, ModelFile, ModelRepo, Revision, StorageAccount
from freehold.serving.models import Endpoint
from freehold.tenancy.models import Tenant
from tests.factories.tenants import make_revision, make_tenant
from tests.integration.console.people import Person, sign_in

FACTS: dict[str, Any] = {
    "architecture": "Qwen3ForCausalLM",
    "kind": "chat",
    "task": "generate",
    "parameters": 30_500_000_000,
    "parameters_active": 3_300_000_000,
    "experts": 128,
    "experts_per_token": 8,
    "dtypes": {"BF16": 30_500_000_000},
    "quantization": "fp8",
    "quantization_config": {"method": "fp8", "bits": 8, "group_size": None, "format": "e4m3"},
    "max_model_len": 40_960,
    "languages": ["en", "de", "xx"],
    "licence": "apache-2.0",
    "licences": {"id": "apache-2.0", "declared": "apache-2.0", "detected": None, "file": None, "agrees": None},
    "has_chat_template": True,
    "tool_call_parser": "hermes",
    "reasoning_parser": "qwen3",
    "total_bytes": 3_440_000_000,
    "files": 7,
}


def _inspected(revision: Revision, **facts: Any) -> str:
    with tenant_scope(revision.tenant_id):
        Revision.objects.filter(pk=revision.pk).update(inspection={**FACTS, **facts})
        return f"/console/models/{revision.repo.public_id}"


def _quota(tenant: Tenant, quota_bytes: int) -> None:
    with tenant_scope(tenant.pk):
        StorageAccount.objects.create(tenant=tenant, quota_bytes=quota_bytes)


def test_without_models_the_page_says_how_to_get_one(acme: Tenant) -> None:
    empty = make_tenant("empty")
    page = sign_in("eve@empty.example", (empty, "developer")).get("/console/models").text
    assert "No model yet" in page
    assert "hf upload empty/my-model" in page
    assert "HF_HUB_DISABLE_XET=1" in page
    assert "/console/imports/new" in page
    assert "/console/catalog" in page


def test_a_viewer_without_models_is_not_told_to_bring_one_in(acme: Tenant) -> None:
    empty = make_tenant("empty")
    page = sign_in("vic@empty.example", (empty, "viewer")).get("/console/models").text
    assert "No model yet" in page
    assert "hf upload" not in page
    assert "/console/imports/new" not in page


def test_the_list_shows_what_a_model_is(acme: Tenant, admin: Person) -> None:
    path = _inspected(make_revision(acme, "qwen"))
    page = admin.get("/console/models").text
    assert path in page
    for fact in (
        "acme/qwen",
        "chat",
        "Qwen3ForCausalLM",
        "30.5 B",
        "3.3 B active",
        "3.2 GiB",
        "apache-2.0",
        "verified",
    ):
        assert fact in page


def test_the_list_is_searched_by_words_in_names(acme: Tenant, admin: Person) -> None:
    make_revision(acme, "Qwen3-8B")
    page = admin.get("/console/models?q=qwen+8b").text
    assert "acme/Qwen3-8B" in page
    assert "acme/tiny" not in page
    nothing = admin.get("/console/models?q=%00nothing%3Cb%3E").text
    assert "No model's name has that in it" in nothing
    assert "<b>" not in nothing


def test_the_list_comes_in_pages(acme: Tenant, admin: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "MODELS", 2)
    for name in ("one", "two", "three"):
        make_revision(acme, name)
    first = admin.get("/console/models").text
    assert "acme/three" in first
    assert "acme/one" not in first
    after = first.split('href="?after=')[1].split('"')[0]
    second = admin.get(f"/console/models?after={after}").text
    assert "acme/one" in second
    assert "acme/tiny" in second
    assert "Older" not in second
    assert "Back to the newest" in second
    assert admin.get("/console/models?after=nonsense").status == 404


def test_a_page_of_the_list_takes_the_same_queries_however_many_there_are(
    acme: Tenant, admin: Person, django_assert_max_num_queries: Any
) -> None:
    for number in range(60):
        make_revision(acme, f"model-{number}")
    with django_assert_max_num_queries(30):
        assert admin.get("/console/models").text.count('data-label="Status"') == models.MODELS


def test_the_bar_says_how_full_the_storage_is(acme: Tenant, admin: Person) -> None:
    assert "no limit" in admin.get("/console/models").text
    _quota(acme, 4_000_000)
    with tenant_scope(acme.pk):
        Blob.objects.create(tenant=acme, sha256="a" * 64, size=1_000_000)
    page = admin.get("/console/models").text
    assert "(25.0 %)" in page
    assert 'class="stored" width="25.0"' in page
    with tenant_scope(acme.pk):
        Blob.objects.create(tenant=acme, sha256="b" * 64, size=3_000_000)
    assert "The storage is full" in admin.get("/console/models").text


def test_a_model_shows_its_inspection_and_endpoints(acme: Tenant, chat: Endpoint, admin: Person) -> None:
    revision = make_revision(acme, "qwen")
    page = admin.get(_inspected(revision)).text
    facts = ("Qwen3ForCausalLM", "BF16", "40,960 tokens", "apache-2.0", "3.2 GiB", revision.digest, "verified")
    for fact in (*facts, "3.3 B active for a token", "8 of 128 experts", "fp8, 8 bits", "English, German, xx"):
        assert fact in page
    for fact in ("hermes", "qwen3", "No endpoint", "hf download acme/qwen", "Deploy it", 'data-copy="digest"'):
        assert fact in page
    with tenant_scope(acme.pk):
        served = chat.spec.revision.repo.public_id
    assert f"/console/endpoints/{chat.public_id}" in admin.get(f"/console/models/{served}").text


def test_a_model_of_which_nothing_is_known_is_shown_all_the_same(acme: Tenant, admin: Person) -> None:
    revision = make_revision(acme, "bare")
    with tenant_scope(acme.pk):
        Revision.objects.filter(pk=revision.pk).update(inspection={})
    page = admin.get(f"/console/models/{revision.repo.public_id}")
    assert page.status == 200
    assert "not known" in page.text


def test_licences_that_disagree_are_pointed_out(acme: Tenant, admin: Person) -> None:
    licences = {"declared": "mit", "name": None, "detected": "llama3.3", "file": "LICENSE", "agrees": False}
    page = admin.get(_inspected(make_revision(acme, "odd"), licences=licences)).text
    assert "The model card says <strong>mit</strong>, but LICENSE reads like <strong>llama3.3</strong>" in page


def test_an_incomplete_revision_says_what_it_lacks_and_how_to_go_on(acme: Tenant, admin: Person) -> None:
    revision = make_revision(acme, "half", status=RevisionStatus.INCOMPLETE)
    page = admin.get(_inspected(revision, missing=["*.safetensors"])).text
    assert "It lacks: *.safetensors" in page
    assert "hf upload acme/half ./my-model" in page
    assert "/console/imports/new?model=half" in page
    assert "Deploy it" not in page


def test_a_refused_revision_says_which_file_why_and_what_to_do(acme: Tenant, admin: Person) -> None:
    revision = make_revision(acme, "bad", status=RevisionStatus.REFUSED)
    problem = {"file": "a<b.safetensors", "reason": "hash_mismatch", "detail": "arrived broken", "remedy": "Send it."}
    page = admin.get(_inspected(revision, problems=[problem])).text
    assert "This revision is refused" in page
    assert "a&lt;b.safetensors</code> arrived broken." in page
    assert "Send it." in page


def test_a_verifying_revision_shows_its_progress_and_looks_again(acme: Tenant, admin: Person) -> None:
    revision = make_revision(acme, "coming", status=RevisionStatus.VERIFYING)
    with tenant_scope(acme.pk):
        for name, size, verified in (("a", 1024, revision.created_at), ("b", 3072, None)):
            ModelFile.objects.create(
                tenant=acme, revision=revision, path=name, size=size, sha256=name * 64, oid=name * 40, lfs=True
            )
            Blob.objects.create(tenant=acme, sha256=name * 64, size=size, verified_at=verified)
    path = _inspected(revision)
    page = admin.get(path).text
    assert "1 KiB of 4 KiB are done" in page
    assert 'hx-trigger="every 2s"' in page
    part = f"{path}/status?revision={revision.commit_id}"
    answer = admin.get(part, htmx=True)
    assert answer.text.startswith('<div id="model-state"')
    seen = answer.text.split("seen=")[1].split('"')[0]
    assert admin.get(f"{part}&seen={seen}", htmx=True).status == 204
    with tenant_scope(acme.pk):
        Revision.objects.filter(pk=revision.pk).update(status=RevisionStatus.VERIFIED.value)
    assert admin.get(f"{part}&seen={seen}", htmx=True).headers["HX-Refresh"] == "true"
    assert "hx-trigger" not in admin.get(path).text


@pytest.mark.parametrize("part", ["", "/status", "/files", "/tensors", "/revisions", "/archive", "/download?path=a"])
def test_a_foreign_model_is_not_found(rival: Tenant, admin: Person, part: str) -> None:
    foreign = admin.get(_inspected(make_revision(rival, "secret")) + part)
    missing = admin.get(f"/console/models/{ids.encode(ModelRepo.ID_PREFIX, ids.uuid7())}{part}")
    assert foreign.status == missing.status == 404
    assert foreign.text == missing.text
    assert "secret" not in admin.get("/console/models").text


@pytest.mark.parametrize("revision", ["nowhere", "0" * 40, "%00", "a%2Fb"])
def test_a_revision_that_is_not_there_is_not_found(acme: Tenant, admin: Person, revision: str) -> None:
    path = _inspected(make_revision(acme, "qwen"))
    assert admin.get(f"{path}?revision={revision}").status == 404
