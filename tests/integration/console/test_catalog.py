"""The catalog on the console: what is on offer, and from there to an import."""

from __future__ import annotations

import pytest

from freehold.console.views import catalog
from freehold.tenancy.models import Tenant
from tests.integration.console.furniture import load_catalog
from tests.integration.console.people import Person

LLAMA = "/console/catalog/meta-llama/Llama-3.3-70B-Instruct"


def test_an_empty_catalog_says_so(acme: Tenant, viewer: Person) -> None:
    assert "The catalog is empty" in viewer.get("/console/catalog").text


def test_the_list_shows_terms_size_and_hardware(acme: Tenant, admin: Person) -> None:
    load_catalog()
    page = admin.get("/console/catalog").text
    assert page.index("Qwen3 8B") < page.index("Llama 3.3 70B Instruct")
    for shown in (
        "Apache-2.0",
        "Alibaba Cloud (Qwen), China",
        "8.19 B",
        "15.3 GiB",
        "40,960 tokens",
        "1 × L40S",
        "gated",
    ):
        assert shown in page
    assert "/console/imports/new?catalog=Qwen%2FQwen3-8B" in page


@pytest.mark.parametrize("asked", ["kind=chat&q=llama", "family=llama-3", "q=META"])
def test_the_list_is_filtered(acme: Tenant, admin: Person, asked: str) -> None:
    load_catalog()
    page = admin.get(f"/console/catalog?{asked}").text
    assert LLAMA in page
    assert "/console/catalog/Qwen/Qwen3-8B" not in page


@pytest.mark.parametrize("asked", ["kind=embedding", "q=%00x", "family=%3Cb%3E"])
def test_where_nothing_is_like_that_it_says_so(acme: Tenant, admin: Person, asked: str) -> None:
    load_catalog()
    page = admin.get(f"/console/catalog?{asked}").text
    assert "Nothing in the catalog is like that" in page
    assert "<b>" not in page


def test_the_list_comes_in_pages(acme: Tenant, admin: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "MODELS", 1)
    load_catalog()
    assert "1 to 1 of 2" in admin.get("/console/catalog").text
    assert LLAMA in admin.get("/console/catalog?offset=1").text


def test_an_entry_shows_everything_and_where_it_is_from(acme: Tenant, admin: Person) -> None:
    load_catalog()
    page = admin.get("/console/catalog/Qwen/Qwen3-8B").text
    for shown in ("Thinking is switched on", "tool_call_parser=hermes", "vLLM 0.8.5", "English, Chinese", "computed"):
        assert shown in page
    assert 'href="https://huggingface.co/Qwen/Qwen3-8B" rel="noopener noreferrer"' in page
    llama = admin.get(LLAMA).text
    for shown in (
        "under conditions",
        "Say “Built with Llama”.",
        "United States",
        "original/*",
        "Gated",
        "code of its own",
    ):
        assert shown in llama
    assert "/console/imports/new?catalog=meta-llama%2FLlama-3.3-70B-Instruct" in llama


def test_a_viewer_is_not_offered_the_import(acme: Tenant, viewer: Person) -> None:
    load_catalog()
    assert "/console/imports/new" not in viewer.get("/console/catalog").text
    assert "/console/imports/new" not in viewer.get(LLAMA).text


@pytest.mark.parametrize("path", ["nobody/nothing", "%00/x", "Qwen/Qwen3-8B/more"])
def test_what_is_not_on_offer_is_not_found(acme: Tenant, admin: Person, path: str) -> None:
    load_catalog()
    assert admin.get(f"/console/catalog/{path}").status == 404
