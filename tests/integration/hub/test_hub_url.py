"""Fetchers inside of the cluster that Freehold runs in: plain HTTP to the Service of web, where all else has TLS."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from django.conf import settings
from huggingface_hub import HfApi

from freehold.registry import selectors
from freehold.registry.fetch_tokens import fetch_token_create
from freehold.registry.models import Revision
from tests.factories.models_on_disk import write_model
from tests.factories.ports import free_port
from tests.integration.hub.live import ROOT, Customer, Web, web_process
from workers.runtimes.fetcher import Exit

INTERNAL = "localhost"  # another name of this machine than the one that web listens on
PUBLIC = "127.0.0.1"
BY_THE_PROXY = {"X-Forwarded-Proto": "https"}

# huggingface_hub sends files in a way that its own HTTP library warns of.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture(scope="module")
def production(django_db_setup: None) -> Iterator[Web]:
    """A web process with production's settings. Its url is the one that customers have, behind the proxy."""
    port = free_port()
    variables = {
        "DJANGO_SETTINGS_MODULE": "freehold.config.settings.production",
        "SECRET_KEY": settings.SECRET_KEY,
        "FREEHOLD_ENCRYPTION_KEYS": ",".join(settings.ENCRYPTION_KEYS),
        "ALLOWED_HOSTS": PUBLIC,
        "FREEHOLD_HUB_URL": f"http://{INTERNAL}:{port}",
        "FREEHOLD_STATIC_ROOT": f"{os.environ['FREEHOLD_DATA']}/static",
    }
    with web_process(port, variables) as running:
        yield running


def internal(web: Web) -> str:
    return web.url.replace(PUBLIC, INTERNAL)


def get(url: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
    return httpx.get(url, headers=headers, trust_env=False)


def fetched(url: str, revision: Revision, target: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        "FREEHOLD_FETCH_URL": url,
        "FREEHOLD_FETCH_TOKEN": fetch_token_create(revision=revision),
        "FREEHOLD_FETCH_REPO": revision.repo.full_name,
        "FREEHOLD_FETCH_REVISION": revision.commit_id,
        "FREEHOLD_FETCH_TARGET": str(target),
    }
    program = ROOT / "workers" / "runtimes" / "fetcher.py"
    return subprocess.run(
        [sys.executable, "-I", str(program)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def revision(api: HfApi, acme: Customer, repo: str, tmp_path: Path) -> Revision:
    api.upload_folder(repo_id=repo, folder_path=write_model(tmp_path / "source", fill=200_000))
    return selectors.revision_resolve(tenant_id=acme.tenant_id, repo=repo)


def test_a_fetcher_gets_its_files_by_the_internal_origin(production: Web, revision: Revision, tmp_path: Path) -> None:
    done = fetched(internal(production), revision, tmp_path / "w")
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    for file in selectors.files(revision=revision):
        assert (tmp_path / "w" / file.path).read_bytes() == (tmp_path / "source" / file.path).read_bytes()


def test_by_any_other_host_plain_http_is_sent_to_https(production: Web, revision: Revision, tmp_path: Path) -> None:
    answer = get(f"{production.url}/api/whoami-v2")
    assert answer.status_code == 301
    assert answer.headers["Location"] == f"{production.url.replace('http:', 'https:')}/api/whoami-v2"
    assert fetched(production.url, revision, tmp_path / "w").returncode == Exit.NETWORK


def test_what_is_linked_is_where_the_asker_can_go(production: Web, revision: Revision) -> None:
    path = f"/{revision.repo.full_name}/resolve/{revision.commit_id}/config.json"
    token = {"Authorization": f"Bearer {fetch_token_create(revision=revision)}"}
    inside = get(f"{internal(production)}{path}", token)
    assert inside.headers["Location"].startswith(f"{internal(production)}/blobs/")
    outside = get(f"{production.url}{path}", token | BY_THE_PROXY)
    assert outside.headers["Location"].startswith(f"{production.url.replace('http:', 'https:')}/blobs/")


def test_only_that_host_with_that_port_is_let_off(production: Web) -> None:
    for host in (INTERNAL, f"{INTERNAL}:1", f"{PUBLIC}:1"):
        assert get(f"{production.url}/api/whoami-v2", {"Host": host}).status_code == 301, host
    assert get(f"{internal(production)}/api/whoami-v2").status_code == 401


def test_what_production_promises_browsers_stays(production: Web) -> None:
    page = get(f"{internal(production)}/api/whoami-v2")
    assert "Strict-Transport-Security" not in page.headers
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    proxied = get(f"{production.url}/api/whoami-v2", BY_THE_PROXY)
    assert proxied.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload"
