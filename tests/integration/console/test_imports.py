"""Imports on the console: beginning one, watching it, cancelling and trying again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from freehold.console.views import import_page, imports
from freehold.db.rls import tenant_scope
from freehold.registry.choices import ImportStatus
from freehold.registry.models import ModelImport, StorageAccount
from freehold.tenancy.models import Tenant
from tests.integration.console.furniture import begin_import, load_catalog, work_on
from tests.integration.console.people import Person, sign_in

NEW = "/console/imports/new"
HUB = {"url": "https://hub.example", "repo": "owner/original", "model": "copy", "branch": "main"}


@pytest.fixture
def developer(acme: Tenant) -> Person:
    """A developer of `acme`, signed in."""
    return sign_in("dev@acme.example", (acme, "developer"))


def _path(found: ModelImport, part: str = "") -> str:
    return f"/console/imports/{found.public_id}{part}"


def _all(tenant: Tenant) -> list[ModelImport]:
    with tenant_scope(tenant.pk):
        return list(ModelImport.objects.filter(tenant=tenant))


def _seen(html: str) -> str:
    return html.split("seen=")[1].split('"')[0]


def test_without_imports_the_page_says_what_one_is(acme: Tenant, developer: Person) -> None:
    page = developer.get("/console/imports").text
    assert "No import yet" in page
    assert NEW in page


def test_an_import_from_a_hub_begins_as_it_was_asked_for(acme: Tenant, developer: Person) -> None:
    page = developer.follow(
        NEW, **HUB, revision="v2", token="hf_secret", include="*.safetensors\n\n *.json ", remove_remote_code="on"
    )
    assert "The import to acme/copy has begun" in page.text
    assert "hf_secret" not in page.text
    (found,) = _all(acme)
    assert found.source == {"url": "https://hub.example", "repo": "owner/original", "revision": "v2"}
    assert json.loads(found.credentials) == {"token": "hf_secret"}
    assert found.include == ["*.safetensors", "*.json"]
    assert found.remove_remote_code
    assert found.requested_by_label == "dev@acme.example"


def test_an_import_from_s3_begins_as_it_was_asked_for(acme: Tenant, developer: Person) -> None:
    fields = {"bucket": "weights", "prefix": "llama/", "region": "eu-central-1", "model": "llama", "branch": "main"}
    keys = {"access_key_id": "AKIA", "secret_access_key": "s3cret"}
    assert developer.post(f"{NEW}?from=s3", **fields, **keys).status == 302
    (found,) = _all(acme)
    assert found.kind == "s3"
    assert found.source == {"bucket": "weights", "prefix": "llama/", "region": "eu-central-1"}
    assert json.loads(found.credentials) == keys


@pytest.mark.parametrize(
    ("wrong", "field", "said"),
    [
        ({"repo": "owner/a b"}, "repo", "owner/name"),
        ({"repo": ""}, "repo", "required"),
        ({"model": "a--b"}, "model", "has 1 to 96 letters"),
        ({"model": ""}, "model", "required"),
        ({"branch": "elsewhere"}, "branch", "has no branch"),
        ({"branch": "refs/x"}, "branch", "does not begin with"),
        ({"revision": "ma\tin"}, "revision", "name of a branch"),
        ({"token": "with blank"}, "token", "holds blanks"),
        ({"url": "ftp://hub.example"}, "url", "Only https"),
        ({"url": "https://user:word@hub.example"}, "url", "user name or password"),
        ({"include": "\n".join(["*"] * 101)}, "include", "there can be 100"),
        ({"exclude": "x" * 301}, "exclude", "at most 300"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(
    acme: Tenant, developer: Person, wrong: dict[str, str], field: str, said: str
) -> None:
    page = developer.post(NEW, **{**HUB, "token": "hf_secret", **wrong})
    assert page.status in {400, 422}
    part = page.text[page.text.index(f'id="id_{field}"') :].partition('<div class="field')[0]
    assert said in part
    assert 'class="error"' in part
    assert "hf_secret" not in page.text
    assert _all(acme) == []


def test_a_second_import_to_the_same_branch_is_refused_above_the_form(acme: Tenant, developer: Person) -> None:
    begin_import(acme)
    page = developer.post(NEW, **HUB)
    assert page.status == 409
    assert "is under way. Wait for it, or cancel it." in page.text


def test_the_form_says_honestly_what_removing_code_means(developer: Person) -> None:
    page = developer.get(NEW).text
    assert "not byte for byte what the source holds" in page
    assert 'value="https://huggingface.co"' in page
    assert developer.get(f"{NEW}?from=elsewhere").status == 404
    assert 'value="half"' in developer.get(f"{NEW}?model=half").text


def test_an_entry_of_the_catalog_fills_in_the_form(acme: Tenant, developer: Person) -> None:
    load_catalog()
    page = developer.get(f"{NEW}?catalog=meta-llama/Llama-3.3-70B-Instruct").text
    for shown in (
        'value="meta-llama/Llama-3.3-70B-Instruct"',
        'value="Llama-3.3-70B-Instruct"',
        "original/*",
        "is gated",
    ):
        assert shown in page
    box = page[page.index('name="remove_remote_code"') :].partition(">")[0]
    assert "checked" in box
    pinned = developer.get(f"{NEW}?catalog=Qwen/Qwen3-8B").text
    assert 'value="0123456789abcdef0123456789abcdef01234567"' in pinned
    assert "checked" not in pinned
    assert developer.get(f"{NEW}?catalog=nobody/nothing").status == 404


def test_too_little_room_is_said_before_it_is_tried(acme: Tenant, developer: Person) -> None:
    load_catalog()
    with tenant_scope(acme.pk):
        StorageAccount.objects.create(tenant=acme, quota_bytes=1024)
    assert "1 KiB are free" in developer.get(f"{NEW}?catalog=Qwen/Qwen3-8B").text
    with tenant_scope(acme.pk):
        StorageAccount.objects.update(quota_bytes=0)
    assert "Your storage is full" in developer.get(NEW).text


def test_the_list_shows_how_far_each_import_is(acme: Tenant, developer: Person) -> None:
    found = begin_import(acme)
    work_on(found, ImportStatus.RUNNING)
    page = developer.get("/console/imports").text
    for shown in (
        "acme/copy",
        "owner/original",
        "https://hub.example",
        "1 of 2 files",
        'value="2000700"',
        _path(found),
    ):
        assert shown in page
    rows = developer.get("/console/imports/rows", htmx=True)
    assert rows.text.startswith('<tbody id="import-rows" hx-get="/console/imports/rows?seen=')
    seen = _seen(rows.text)
    assert developer.get(f"/console/imports/rows?seen={seen}", htmx=True).status == 204
    with tenant_scope(acme.pk):
        ModelImport.objects.update(status=ImportStatus.FAILED.value)
    over = developer.get(f"/console/imports/rows?seen={seen}", htmx=True).text
    assert "failed" in over
    assert 'hx-trigger="every 10s"' in over


def test_the_list_comes_in_pages(acme: Tenant, developer: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "IMPORTS", 1)
    begin_import(acme, "older")
    begin_import(acme, "newer")
    first = developer.get("/console/imports").text
    assert "acme/newer" in first
    assert "acme/older" not in first
    after = first.split('href="?after=')[1].split('"')[0]
    second = developer.get(f"/console/imports?after={after}").text
    assert "acme/older" in second
    assert f"rows?after={after[:8]}" in second.replace("-", "")


def test_an_import_shows_its_files_and_why_some_are_left_out(acme: Tenant, developer: Person) -> None:
    found = begin_import(acme, token="hf_secret")
    work_on(found, ImportStatus.RUNNING)
    page = developer.get(_path(found)).text
    for shown in ("model.safetensors", "left out", "is a pickle", "1 file left out", "original/*", "Cancel the import"):
        assert shown in page
    assert "hf_secret" not in page
    assert "Try again" not in page


def test_polling_an_import_ends_with_the_whole_page_once_it_is_over(acme: Tenant, developer: Person) -> None:
    found = begin_import(acme)
    work_on(found, ImportStatus.RUNNING)
    state = developer.get(_path(found, "/status"), htmx=True).text
    assert developer.get(_path(found, f"/status?seen={_seen(state)}"), htmx=True).status == 204
    files = developer.get(_path(found, "/files?offset=0"), htmx=True).text
    assert "/files?offset=0&amp;seen=" in files
    with tenant_scope(acme.pk):
        ModelImport.objects.update(status=ImportStatus.FAILED.value, message="The <token> is wrong.\nAsk for another.")
    assert developer.get(_path(found, "/status"), htmx=True).headers["HX-Refresh"] == "true"
    page = developer.get(_path(found)).text
    assert "The &lt;token&gt; is wrong.\nAsk for another." in page
    assert "hx-trigger" not in page


def test_files_come_in_pages(acme: Tenant, developer: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_page, "FILES", 2)
    found = begin_import(acme)
    work_on(found, ImportStatus.FAILED)
    assert "1 to 2 of 3" in developer.get(_path(found)).text
    assert "3 to 3 of 3" in developer.get(_path(found) + "?offset=2").text
    assert developer.get(_path(found) + "?offset=x").status == 404


def test_an_import_is_cancelled_once_and_tried_again_with_other_credentials(acme: Tenant, developer: Person) -> None:
    found = begin_import(acme, token="hf_old")
    assert "The import ends" in developer.follow(_path(found, "/cancel")).text
    page = developer.get(_path(found)).text
    assert "cancelled" in page
    assert "Try again" in page
    again = developer.follow(_path(found, "/retry"), token="hf_new")
    assert "The import goes on" in again.text
    assert "hf_new" not in again.text
    assert json.loads(_all(acme)[0].credentials) == {"token": "hf_new"}


@pytest.mark.parametrize(("fields", "kept"), [({}, "hf_old"), ({"forget": "on"}, None)])
def test_a_retry_keeps_credentials_or_forgets_them(
    acme: Tenant, developer: Person, fields: dict[str, str], kept: str | None
) -> None:
    found = begin_import(acme, token="hf_old")
    work_on(found, ImportStatus.FAILED)
    assert developer.post(_path(found, "/retry"), **fields).status == 302
    credentials = _all(acme)[0].credentials
    assert credentials == ("" if kept is None else json.dumps({"token": kept}))


def test_what_cannot_be_done_any_more_is_said(acme: Tenant, developer: Person) -> None:
    found = begin_import(acme)
    work_on(found, ImportStatus.SUCCEEDED)
    assert "has succeeded already" in developer.follow(_path(found, "/cancel")).text
    refused = developer.post(_path(found, "/retry"))
    assert refused.status == 409
    assert "there is nothing to retry" in refused.text
    page = developer.get(_path(found)).text
    assert "Look at the model" in page
    assert "Try again" not in page


def test_a_viewer_looks_and_does_nothing(acme: Tenant, viewer: Person) -> None:
    found = begin_import(acme)
    assert NEW not in viewer.get("/console/imports").text
    assert "/cancel" not in viewer.get(_path(found)).text
    work_on(found, ImportStatus.FAILED)
    assert "/retry" not in viewer.get(_path(found)).text
    answers = [viewer.get(NEW), viewer.post(NEW, **HUB), viewer.post(_path(found, "/cancel"))]
    assert [answer.status for answer in [*answers, viewer.post(_path(found, "/retry"))]] == [403] * 4
    assert len(_all(acme)) == 1


@pytest.mark.parametrize("part", ["", "/status", "/files"])
def test_a_foreign_import_is_not_found_like_a_missing_one(rival: Tenant, admin: Person, part: str) -> None:
    foreign = admin.get(_path(begin_import(rival, "secret"), part))
    missing = admin.get(f"/console/imports/imp_{'0' * 26}{part}")
    assert foreign.status == missing.status == 404
    assert foreign.text == missing.text
    assert "secret" not in admin.get("/console/imports").text


@pytest.mark.parametrize("part", ["/cancel", "/retry"])
def test_a_foreign_import_cannot_be_changed(rival: Tenant, admin: Person, part: str) -> None:
    found = begin_import(rival)
    assert admin.post(_path(found, part)).status == 404
    assert _all(rival)[0].cancel_requested_at is None


def test_forms_need_their_token(acme: Tenant, developer: Person) -> None:
    found = begin_import(acme)
    strict: Any = developer.client
    strict.handler.enforce_csrf_checks = True
    assert developer.post(_path(found, "/cancel")).status == 403
    assert developer.post(NEW, **HUB).status == 403
    assert len(_all(acme)) == 1
