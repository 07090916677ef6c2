"""A model's files, tensors and revisions on the console, its download and its deletion."""

from __future__ import annotations

import hashlib
import re
from html import unescape

import pytest

from freehold.common.errors import NotFound
from freehold.console.views import model_files, model_revisions, model_tensors
from freehold.registry import selectors, services
from freehold.registry.choices import RefKind
from freehold.registry.content_links import download_verify
from freehold.registry.export_links import export_verify
from freehold.registry.models import Revision
from freehold.serving.models import Endpoint
from freehold.tenancy.models import Tenant
from tests.factories.models_on_disk import model_files as tiny_files
from tests.factories.models_on_disk import safetensors_bytes
from tests.factories.tenants import actor_in, make_revision
from tests.integration.console.furniture import upload
from tests.integration.console.people import Page, Person, sign_in

TENSORS = {
    "model.embed_tokens.weight": ("BF16", [512, 64], 65_536),
    "model.layers.0.mlp.gate.weight": ("F32", [4, 4], 64),
    "model.norm.weight": ("F32", [], 4),
}


@pytest.fixture
def uploaded(acme: Tenant) -> Revision:
    """A model with tensors worth looking at, and a path that needs escaping."""
    files = {**tiny_files(), "model.safetensors": safetensors_bytes(TENSORS), "notes/a b&c?.md": b"# Hello\n"}
    return upload(acme, "real", files)


def _path(revision: Revision, part: str = "") -> str:
    return f"/console/models/{revision.repo.public_id}{part}"


def _links(page: Page, part: str) -> list[str]:
    return [unescape(link) for link in re.findall(r'href="([^"]+)"', page.text) if part in link]


def test_files_are_listed_with_size_hash_and_link(uploaded: Revision, admin: Person) -> None:
    page = admin.get(_path(uploaded, "/files"))
    assert "6 files" in page.text
    assert hashlib.sha256(b"# Hello\n").hexdigest() in page.text
    assert "notes/a b&amp;c?.md" in page.text
    assert "8 bytes" in page.text


def test_a_file_link_is_one_that_the_hub_takes(uploaded: Revision, admin: Person) -> None:
    wanted = next(link for link in _links(admin.get(_path(uploaded, "/files")), "/download") if "notes" in link)
    answer = admin.get(wanted)
    assert answer.status == 302
    link = download_verify(path=answer.location)
    assert link.tenant_id == uploaded.tenant_id
    assert link.sha256 == hashlib.sha256(b"# Hello\n").hexdigest()
    assert (link.size, link.filename) == (8, "a b&c?.md")
    assert answer.headers["Cache-Control"] == "no-store"


def test_where_the_store_has_urls_the_browser_goes_there(
    uploaded: Revision, admin: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Elsewhere:
        def download_url(self, tenant_id: object, *, sha256: str, filename: str, seconds: int) -> str:
            return f"https://store.example/{sha256}?name={filename}&seconds={seconds}"

    monkeypatch.setattr("freehold.console.downloads.object_store", Elsewhere)
    location = admin.get(_path(uploaded, "/download?path=config.json")).location
    assert location.startswith("https://store.example/")
    assert location.endswith("name=config.json&seconds=3600")


@pytest.mark.parametrize("path", ["", "nothing.txt", "%00", "../config.json"])
def test_a_file_that_is_not_there_is_not_found(uploaded: Revision, admin: Person, path: str) -> None:
    assert admin.get(_path(uploaded, f"/download?path={path}")).status == 404


def test_everything_can_be_taken_along(uploaded: Revision, admin: Person) -> None:
    (link,) = _links(admin.get(_path(uploaded)), "/archive")
    answer = admin.get(link)
    assert answer.status == 302
    assert export_verify(path=answer.location).revision_id == uploaded.pk


def test_a_viewer_may_download(acme: Tenant, uploaded: Revision, viewer: Person) -> None:
    assert viewer.get(_path(uploaded, "/download?path=config.json")).status == 302
    assert viewer.get(_path(uploaded, "/archive")).status == 302


def test_many_files_come_in_pages(uploaded: Revision, admin: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "FILES", 4)
    first = admin.get(_path(uploaded, "/files"))
    assert "1 to 4 of 6" in first.text
    second = admin.get(_path(uploaded, "/files") + _links(first, "offset=")[0])
    assert "5 to 6 of 6" in second.text
    assert admin.get(_path(uploaded, "/files?offset=-1")).status == 404
    assert admin.get(_path(uploaded, "/files?offset=999")).status == 200


def test_tensors_are_listed_with_their_bytes(uploaded: Revision, admin: Person) -> None:
    page = admin.get(_path(uploaded, "/tensors")).text
    assert "3 tensors" in page
    assert "(65,604 bytes)" in page
    assert "512 × 64" in page
    assert "scalar" in page
    assert "model.safetensors" in page


def test_tensors_are_filtered_and_htmx_gets_the_table_alone(uploaded: Revision, admin: Person) -> None:
    page = admin.get(_path(uploaded, "/tensors?q=MLP"))
    assert 'value="MLP"' in page.text
    assert "model.layers.0.mlp.gate.weight" in page.text
    assert "model.norm.weight" not in page.text
    part = admin.get(_path(uploaded, "/tensors?q=norm"), htmx=True).text
    assert part.startswith('<div id="tensor-table">')
    assert "model.norm.weight" in part
    assert "<nav" not in part
    assert "No tensor's name has that in it" in admin.get(_path(uploaded, "/tensors?q=%3Cx%00"), htmx=True).text


def test_tensors_come_in_pages(uploaded: Revision, admin: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_tensors, "TENSORS", 1)
    first = admin.get(_path(uploaded, "/tensors?q=weight"))
    assert "1 to 1 of 3" in first.text
    (link,) = _links(first, "offset=")
    assert "q=weight" in link
    assert "2 to 2 of 3" in admin.get(_path(uploaded, "/tensors") + link).text


def test_a_model_without_weights_has_no_tensors(acme: Tenant, admin: Person) -> None:
    assert "No tensor is known" in admin.get(_path(make_revision(acme, "empty"), "/tensors")).text


def test_revisions_branches_and_tags_are_listed(acme: Tenant, uploaded: Revision, admin: Person) -> None:
    services.ref_create(
        actor=actor_in(acme),
        tenant_id=acme.pk,
        model_id=uploaded.repo_id,
        kind=RefKind.TAG,
        name="v1.0",
        revision=uploaded,
    )
    upload(acme, "real", {"extra.md": b"more"}, message="Add <extra>")
    page = admin.get(_path(uploaded, "/revisions")).text
    for shown in ("v1.0", "tag", "branch", "Add &lt;extra&gt;", "initial commit", uploaded.commit_id[:12]):
        assert shown in page


def test_an_older_revision_keeps_its_own_page_and_links(acme: Tenant, uploaded: Revision, admin: Person) -> None:
    upload(acme, "real", {"extra.md": b"more"})
    old = f"?revision={uploaded.commit_id}"
    page = admin.get(_path(uploaded) + old)
    assert uploaded.digest in page.text
    assert "Go to main" in page.text
    assert f"/files{old}" in page.text
    assert f"--revision {uploaded.commit_id}" in page.text
    assert "extra.md" not in admin.get(_path(uploaded, f"/files{old}")).text
    assert "extra.md" in admin.get(_path(uploaded, "/files")).text


def test_revisions_come_in_pages(
    acme: Tenant, uploaded: Revision, admin: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_revisions, "REVISIONS", 1)
    first = admin.get(_path(uploaded, "/revisions"))
    (link,) = _links(first, "after=")
    assert "initial commit" not in first.text
    assert "initial commit" in admin.get(_path(uploaded, "/revisions") + link).text


def test_deletion_asks_for_the_name(acme: Tenant, uploaded: Revision, admin: Person) -> None:
    assert "Type <code>real</code>" in admin.get(_path(uploaded, "/delete")).text
    refused = admin.post(_path(uploaded, "/delete"), name="unreal")
    assert refused.status == 400
    assert "That is not its name" in refused.text
    done = admin.follow(_path(uploaded, "/delete"), name="real")
    assert "acme/real is deleted" in done.text
    with pytest.raises(NotFound):
        selectors.model_get(tenant_id=acme.pk, public_id=uploaded.repo.public_id)


def test_a_model_that_is_served_is_kept_and_who_holds_it_is_said(chat: Endpoint, admin: Person) -> None:
    repo = selectors.model_find(tenant_id=chat.tenant_id, name="tiny")
    path = f"/console/models/{repo.public_id}/delete"
    assert f"/console/endpoints/{chat.public_id}" in admin.get(path).text
    refused = admin.post(path, name="tiny")
    assert refused.status == 409
    assert f"in use by {chat.public_id}" in refused.text
    assert selectors.model_find(tenant_id=chat.tenant_id, name="tiny") == repo


@pytest.mark.parametrize("role", ["viewer", "developer"])
def test_only_admins_delete(acme: Tenant, uploaded: Revision, role: str) -> None:
    person = sign_in(f"{role}@acme.example", (acme, role))
    assert "/delete" not in person.get(_path(uploaded)).text
    assert person.get(_path(uploaded, "/delete")).status == 403
    assert person.post(_path(uploaded, "/delete"), name="real").status == 403
    assert selectors.model_find(tenant_id=acme.pk, name="real").pk == uploaded.repo_id


def test_a_foreign_model_cannot_be_deleted(rival: Tenant, admin: Person) -> None:
    revision = make_revision(rival, "secret")
    assert admin.post(_path(revision, "/delete"), name="secret").status == 404
    assert selectors.model_find(tenant_id=rival.pk, name="secret").pk == revision.repo_id
