"""The screens of models, imports, catalog and storage in a real browser: what a policy blocks or a script stumbles over
fails, nothing needs sideways scrolling, and what moves moves by itself.

Each page's picture is kept in the test's temporary folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from freehold.db.rls import tenant_scope
from freehold.fleet import services as fleet
from freehold.registry import services
from freehold.registry.choices import ImportStatus, RevisionStatus
from freehold.registry.models import Blob, ModelFile, ModelImport, Revision, StorageAccount
from tests.factories.models_on_disk import model_files, safetensors_bytes
from tests.factories.tenants import SYSTEM, actor_in, make_fleet, make_revision, make_tenant
from tests.integration.console import test_sizing as sized
from tests.integration.console.furniture import begin_import, load_catalog, upload, work_on
from tests.integration.console.people import PASSWORD, make_user
from tests.integration.console.test_models import FACTS
from tests.integration.hub.live import web_process

if TYPE_CHECKING:
    from freehold.tenancy.models import Tenant
    from tests.integration.hub.live import Web

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

_Window = tuple[Literal["light", "dark"], int]

_SECONDS = 15_000  # milliseconds, to Playwright: it polls
_WIDE: Final[_Window] = ("light", 1280)
_NARROW: Final[_Window] = ("dark", 390)
_EMAIL = "ada@acme.example"
_TENSORS = {f"model.layers.{n}.mlp.down_proj.weight": ("BF16", [64, 32], 4096) for n in range(150)}


@pytest.fixture(autouse=True)
def _beside_playwright(monkeypatch: pytest.MonkeyPatch) -> None:
    """Playwright keeps an event loop in this thread, in which Django would ask no database; nothing else runs in it."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")


@pytest.fixture(scope="module")
def web(django_db_setup: None) -> Iterator[Web]:
    """The web process of this module."""
    with web_process() as running:
        yield running


@pytest.fixture
def acme(committed_db: None) -> Tenant:
    """A tenant with something on every screen, and an admin."""
    tenant = make_tenant("acme")
    make_user(_EMAIL, (tenant, "admin"))
    make_fleet()
    load_catalog()
    files = {**model_files(fill=2_000_000), "weights/part.safetensors": safetensors_bytes(_TENSORS)}
    upload(tenant, "real", files)
    with tenant_scope(tenant.pk):
        StorageAccount.objects.filter(tenant=tenant).update(quota_bytes=12 * 1024**2)
    actor = actor_in(tenant)
    services.content_add(actor=actor, tenant_id=tenant.pk, content=b"x" * 100_000)
    waiting = services.Content(sha256="d" * 64, size=5 * 1024**2)
    services.uploads_begin(actor=actor, tenant_id=tenant.pk, contents=[waiting])
    for status, name in (
        (ImportStatus.RUNNING, "Llama-3.3-70B-Instruct"),
        (ImportStatus.FAILED, "failed"),
        (ImportStatus.SUCCEEDED, "done"),
    ):
        message = "The token is wrong or has expired. Ask the hub for another one." if status == "failed" else ""
        work_on(begin_import(tenant, name), status, message=message)
    return tenant


@pytest.fixture
def page(request: pytest.FixtureRequest) -> Iterator[Page]:
    """A browser window, wide and light unless a test is parametrized with another; what it complains about fails the
    test."""
    window: _Window = getattr(request, "param", _WIDE)
    scheme, width = window
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
        page.set_default_timeout(_SECONDS)
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        yield page
        browser.close()
    assert complaints == []


def _sign_in(page: Page, web: Web) -> None:
    page.goto(f"{web.url}/login")
    page.get_by_label("Email address").fill(_EMAIL)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Endpoints")).to_be_visible()


def _model(tenant: Tenant, name: str, status: RevisionStatus, **facts: object) -> str:
    revision = make_revision(tenant, name, status=status)
    with tenant_scope(tenant.pk):
        Revision.objects.filter(pk=revision.pk).update(inspection={**FACTS, **facts})
    return f"/console/models/{revision.repo.public_id}"


@pytest.mark.parametrize("page", [_WIDE, _NARROW], indirect=True, ids=["wide", "narrow"])
def test_every_screen_is_whole_in_a_window_of_any_width(web: Web, acme: Tenant, page: Page, tmp_path: Path) -> None:
    with tenant_scope(acme.pk):
        real = Revision.objects.get(repo__name="real", status="verified").repo.public_id
        imports = {found.status: found.public_id for found in ModelImport.objects.all()}
    problem = {"file": "model.safetensors", "reason": "hash_mismatch", "detail": "arrived with the sha256 " + "a" * 64}
    licences = {"declared": "mit", "name": None, "detected": "llama3.3", "file": "LICENSE", "agrees": False}
    screens = {
        "models": "/console/models",
        "overview": f"/console/models/{real}",
        "moe": _model(acme, "Qwen3-30B-A3B", RevisionStatus.VERIFIED, licences=licences),
        "incomplete": _model(acme, "half", RevisionStatus.INCOMPLETE, missing=["config.json", "*.safetensors"]),
        "refused": _model(
            acme, "refused", RevisionStatus.REFUSED, problems=[{**problem, "remedy": "Upload it again."}]
        ),
        "files": f"/console/models/{real}/files",
        "tensors": f"/console/models/{real}/tensors",
        "revisions": f"/console/models/{real}/revisions",
        "delete": f"/console/models/{real}/delete",
        "imports": "/console/imports",
        "import-running": f"/console/imports/{imports['running']}",
        "import-failed": f"/console/imports/{imports['failed']}",
        "import-done": f"/console/imports/{imports['succeeded']}",
        "import-new": "/console/imports/new",
        "import-s3": "/console/imports/new?from=s3",
        "import-catalog": "/console/imports/new?catalog=meta-llama/Llama-3.3-70B-Instruct",
        "catalog": "/console/catalog",
        "entry": "/console/catalog/meta-llama/Llama-3.3-70B-Instruct",
        "storage": "/console/storage",
    }
    _sign_in(page, web)
    for name, path in screens.items():
        page.goto(f"{web.url}{path}")
        page.screenshot(path=tmp_path / f"{name}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path


def test_a_file_that_is_downloaded_has_its_bytes(web: Web, acme: Tenant, page: Page) -> None:
    _sign_in(page, web)
    page.goto(f"{web.url}/console/models")
    page.get_by_role("link", name="acme/real").click()
    page.get_by_role("link", name="Files").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download README.md").click()
    assert download.value.suggested_filename == "README.md"
    assert download.value.path().read_bytes() == model_files()["README.md"]
    with page.expect_download() as download:
        page.get_by_role("link", name="Download everything").click()
    assert download.value.suggested_filename.endswith(".tar")


def test_tensors_are_filtered_while_one_types(web: Web, acme: Tenant, page: Page) -> None:
    _sign_in(page, web)
    page.goto(f"{web.url}/console/models")
    page.get_by_role("link", name="acme/real").click()
    page.get_by_role("link", name="Tensors").click()
    page.get_by_label("Part of the name").fill("layers.14.")
    expect(page.locator("#tensor-table tbody tr")).to_have_count(1)


def test_an_import_goes_on_by_itself(web: Web, acme: Tenant, page: Page) -> None:
    _sign_in(page, web)
    page.goto(f"{web.url}/console/imports")
    row = page.locator("#import-rows tr").filter(has_text="acme/Llama-3.3-70B-Instruct")
    expect(row.get_by_text("running")).to_be_visible()
    row.get_by_role("link").click()
    page.get_by_role("button", name="Cancel the import").click()
    expect(page.get_by_text("ends at the next opportunity")).to_be_visible()
    with tenant_scope(acme.pk):
        ModelImport.objects.filter(status="running").update(status="cancelled", message="Cancelled.")
    expect(page.get_by_role("heading", name="Try again")).to_be_visible()


def test_verification_goes_on_by_itself(web: Web, acme: Tenant, page: Page) -> None:
    path = _model(acme, "coming", RevisionStatus.VERIFYING)
    with tenant_scope(acme.pk):
        revision = Revision.objects.get(status="verifying")
        for name, size in (("a", 1024), ("b", 3072)):
            ModelFile.objects.create(
                tenant=acme, revision=revision, path=name, size=size, sha256=name * 64, oid=name * 40, lfs=True
            )
            Blob.objects.create(tenant=acme, sha256=name * 64, size=size)
    _sign_in(page, web)
    page.goto(f"{web.url}{path}")
    expect(page.get_by_text("0 bytes of 4 KiB")).to_be_visible()
    with tenant_scope(acme.pk):
        Blob.objects.filter(sha256="a" * 64).update(verified_at=revision.created_at)
    expect(page.get_by_text("1 KiB of 4 KiB")).to_be_visible()
    with tenant_scope(acme.pk):
        Revision.objects.filter(pk=revision.pk).update(status=RevisionStatus.VERIFIED.value)
    expect(page.get_by_text("Deploy it as an endpoint").first).to_be_visible()


def test_the_consoles_cookie_reads_nothing_from_the_hub(web: Web, acme: Tenant, page: Page) -> None:
    _sign_in(page, web)
    assert page.request.get(f"{web.url}/console/models").status == 200
    assert page.request.get(f"{web.url}/acme/real/resolve/main/README.md").status == 401


@pytest.mark.parametrize("page", [_NARROW], indirect=True, ids=["narrow"])
def test_it_is_worked_out_again_for_another_context(web: Web, acme: Tenant, page: Page, tmp_path: Path) -> None:
    fleet.flavor_create(actor=SYSTEM, name="l40s", accelerator="L40S", memory_bytes=48 * 1024**3)
    fleet.flavor_create(actor=SYSTEM, name="h200-8x", accelerator="H200", accelerators=8, memory_bytes=141 * 1024**3)
    path = _model(acme, "sized", RevisionStatus.VERIFIED, **sized.FACTS, context={"longest": 40_960})
    _sign_in(page, web)
    page.goto(f"{web.url}{path}")
    panel = page.locator("#sizing")
    expect(panel.get_by_label("Context length")).to_have_value("8192")
    panel.get_by_label("Context length").fill("40000")
    panel.get_by_label("Requests at once").fill("500")
    panel.get_by_role("button", name="Work it out").click()
    expect(panel.get_by_text("500 are asked")).to_be_visible()
    panel.get_by_text("How that is worked out").first.click()
    page.screenshot(path=tmp_path / "sizing.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
