"""The catalog over the API."""

from __future__ import annotations

import pytest

from freehold.serving.catalog.document import SHIPPED, load
from freehold.serving.catalog.services import catalog_load
from freehold.serving.models import CatalogModel
from freehold.tenancy.choices import Role
from freehold.tenancy.models import Tenant
from tests.factories.tenants import SYSTEM
from tests.integration.api.client import Api, api_of

IDS = [entry.id for entry in load(SHIPPED).entries]


@pytest.fixture
def shipped(acme: Tenant) -> None:
    """The catalog as it ships."""
    catalog_load(actor=SYSTEM, catalog=load(SHIPPED))


def ids(api: Api, **query: object) -> list[str]:
    return [model["upstream_id"] for model in api.get("/catalog", limit=100, **query).body["data"]]


def test_without_a_load_there_is_nothing(api: Api) -> None:
    answer = api.get("/catalog")
    assert (answer.status, answer.body) == (200, {"data": [], "has_more": False, "next_cursor": None})


@pytest.mark.usefixtures("shipped")
def test_the_list_is_paged_and_in_the_operators_order(api: Api) -> None:
    seen: list[str] = []
    cursor = ""
    while True:
        page = api.get("/catalog", limit=20, cursor=cursor).body
        seen += [model["upstream_id"] for model in page["data"]]
        if not page["has_more"]:
            break
        cursor = page["next_cursor"]
    assert seen == IDS


@pytest.mark.usefixtures("shipped")
def test_a_model_in_the_list_says_what_a_buyer_asks_first(api: Api) -> None:
    (model,) = api.get("/catalog", q="gpt-oss-20b").body["data"]
    assert model["id"].startswith("cat_")
    assert {name: model[name] for name in ("upstream_id", "family", "kind", "publisher", "origin", "gated")} == {
        "upstream_id": "openai/gpt-oss-20b",
        "family": "gpt-oss",
        "kind": "chat",
        "publisher": "OpenAI",
        "origin": "US",
        "gated": False,
    }
    assert model["licence"]["id"] == "Apache-2.0"
    assert model["licence"]["commercial_use"] == "yes"
    assert model["licence"]["note"] is None
    assert model["parameters"] == {"total": 20_910_000_000, "active": 3_610_000_000}
    assert model["weights"]["quantization"] == "mxfp4"
    assert "sources" not in model


@pytest.mark.usefixtures("shipped")
def test_one_model_says_everything_and_where_it_comes_from(api: Api) -> None:
    model = api.get("/catalog/Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8").body
    assert model["arguments"] == {"enable_auto_tool_choice": True, "tool_call_parser": "qwen3_xml"}
    (flavor,) = model["recommended_flavors"]
    assert (flavor["accelerator"], flavor["accelerators"]) == ("H200", 8)
    assert (flavor["tensor_parallel_size"], flavor["data_parallel_size"]) == (1, 8)
    assert flavor["enable_expert_parallel"] is True
    assert all(source["url"].startswith("https://") and source["for"] for source in model["sources"])
    assert (model["upstream_revision"], model["exclude"], model["languages"]) == (None, [], [])
    assert model["updated_at"]


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize("upstream_id", IDS)
def test_every_shipped_model_can_be_read(api: Api, upstream_id: str) -> None:
    answer = api.get(f"/catalog/{upstream_id}")
    assert (answer.status, answer.body["upstream_id"]) == (200, upstream_id)


@pytest.mark.usefixtures("shipped")
def test_lists_are_filtered_by_kind_family_and_text(api: Api) -> None:
    assert ids(api, kind="reranker") == [name for name in IDS if "eranker" in name]
    assert ids(api, family="gpt-oss") == ["openai/gpt-oss-120b", "openai/gpt-oss-20b"]
    assert ids(api, q="MINILM") == ["sentence-transformers/all-MiniLM-L6-v2"]
    assert ids(api, q="qwen3", kind="embedding") == [f"Qwen/Qwen3-Embedding-{size}" for size in ("0.6B", "4B", "8B")]
    assert ids(api, q="100%_nothing") == []
    assert ids(api, q="%") == []


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize(
    ("query", "field"), [({"kind": "poem"}, "kind"), ({"q": "x" * 201}, "q"), ({"cursor": "no!"}, "cursor")]
)
def test_a_bad_filter_is_refused(api: Api, query: dict[str, str], field: str) -> None:
    assert api.get("/catalog", **query).problem == (400, "invalid_input", field)


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize("path", ["/catalog/Qwen/none", "/catalog/qwen/qwen3-8b", "/catalog/a/b/c", "/catalog/x/%00"])
def test_what_is_not_offered_is_a_404(api: Api, path: str) -> None:
    assert api.get(path).problem[:2] == (404, "not_found")


@pytest.mark.usefixtures("shipped")
def test_what_is_offered_no_longer_is_neither_listed_nor_found(api: Api) -> None:
    CatalogModel.objects.filter(upstream_id=IDS[0]).update(enabled=False)
    assert ids(api) == IDS[1:]
    assert api.get(f"/catalog/{IDS[0]}").problem[:2] == (404, "not_found")


@pytest.mark.usefixtures("shipped")
def test_whoever_may_read_models_may_read_the_catalog_and_nobody_else(acme: Tenant) -> None:
    statuses = {role: api_of(acme, role).get("/catalog").status for role in Role}
    assert statuses == {Role.VIEWER: 200, Role.DEVELOPER: 200, Role.ADMIN: 200, Role.INFERENCE: 403}
    assert Api(None).get("/catalog").problem[0] == 401


@pytest.mark.usefixtures("shipped")
def test_nobody_writes_it_over_the_api(api: Api) -> None:
    assert api.post("/catalog", {"id": "a/b"}).status == 405
    assert api.delete(f"/catalog/{IDS[0]}").status == 405
