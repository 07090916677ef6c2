"""Pages hang together while rows come and go."""

from __future__ import annotations

import pytest

from tests.integration.api.client import Api


def test_pages_show_everything_once_newest_first(api: Api) -> None:
    names = [api.post("/models", {"name": f"m{n}"}).body["name"] for n in range(5)]
    seen: list[str] = []
    cursor = ""
    sizes = []
    while True:
        page = api.get("/models", limit=2, cursor=cursor).body
        seen += [model["name"] for model in page["data"]]
        sizes.append(len(page["data"]))
        assert page["has_more"] == (page["next_cursor"] is not None)
        if not page["has_more"]:
            break
        cursor = page["next_cursor"]
    assert seen == names[::-1]
    assert sizes == [2, 2, 1]


def test_what_is_made_meanwhile_does_not_shift_the_next_page(api: Api) -> None:
    for n in range(4):
        api.post("/models", {"name": f"m{n}"})
    first = api.get("/models", limit=2).body
    api.post("/models", {"name": "late"})
    api.delete(f"/models/{first['data'][1]['id']}")
    second = api.get("/models", limit=2, cursor=first["next_cursor"]).body
    assert [model["name"] for model in second["data"]] == ["acme/m1", "acme/m0"]


def test_a_full_last_page_says_that_it_is_the_last(api: Api) -> None:
    for n in range(2):
        api.post("/models", {"name": f"m{n}"})
    page = api.get("/models", limit=2).body
    assert (page["has_more"], page["next_cursor"]) == (False, None)


def test_twenty_are_shown_unless_asked_otherwise(api: Api) -> None:
    for n in range(21):
        api.post("/models", {"name": f"m{n}"})
    assert len(api.get("/models").body["data"]) == 20


@pytest.mark.parametrize("path", ["/models", "/endpoints", "/api-keys"])
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": "all"}, "limit"),
        ({"cursor": "nonsense!"}, "cursor"),
        ({"cursor": "AAAA"}, "cursor"),
        ({"cursor": "ü"}, "cursor"),
    ],
)
def test_bad_input_names_the_parameter(api: Api, path: str, query: dict[str, object], field: str) -> None:
    assert api.get(path, **query).problem == (400, "invalid_input", field)
