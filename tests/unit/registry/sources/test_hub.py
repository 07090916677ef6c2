"""Another hub as a source, with everything that can go wrong on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import httpx
import pytest

from freehold.common.errors import InvalidInput
from freehold.registry.sources import base
from freehold.registry.sources.base import Listing, SourceFile, select
from freehold.registry.sources.errors import (
    OutboundRefused,
    SourceBroken,
    SourceChanged,
    SourceGone,
    SourceUnauthorized,
    SourceUnavailable,
)
from freehold.registry.sources.hub import HubSource
from tests.fakes.foreign_hub import COMMIT, ForeignHub
from tests.fakes.origin import Origin, Reply, Seen, ranged

FILES = {
    "README.md": b"# Tiny\n",
    "config.json": b"{}",
    "empty.txt": b"",
    "sub dir/vocab+ü.txt": b"words",
    "model.safetensors": bytes(range(256)) * 2000,
    "pytorch_model.bin": b"\x80\x04.",
    ".gitattributes": b"* -text\n",
}
WEIGHTS = "model.safetensors"


@pytest.fixture
def hub(there: Origin, elsewhere: Origin) -> ForeignHub:
    return ForeignHub(there, elsewhere, dict(FILES), frozenset({WEIGHTS}))


@pytest.fixture
def source(client: httpx.Client, hub: ForeignHub) -> HubSource:
    return HubSource(client, url=hub.at.url() + "/", repo=hub.repo)


def named(listing: Listing, path: str) -> SourceFile:
    return next(file for file in listing.files if file.path == path)


def read(source: HubSource, file: SourceFile, *, offset: int = 0) -> bytes:
    with source.open(file, offset=offset) as chunks:
        return b"".join(chunks)


def test_a_revision_is_pinned_and_listed_over_pages(source: HubSource, hub: ForeignHub) -> None:
    listing = source.describe()
    assert listing.pin == COMMIT
    assert [file.path for file in listing.files] == sorted(set(FILES) - {"pytorch_model.bin"})
    assert named(listing, WEIGHTS) == SourceFile(path=WEIGHTS, size=512_000, sha256=hub.sha256(WEIGHTS))
    assert named(listing, "config.json") == SourceFile(path="config.json", size=2, git_oid=hub.git_oid("config.json"))
    assert listing.size == sum(map(len, FILES.values())) - 3
    assert hub.at.paths().count(f"/api/models/acme/tiny/tree/{COMMIT}") == 4


def test_pickles_beside_safetensors_are_left_out_with_a_reason(source: HubSource) -> None:
    (skipped,) = source.describe().skipped
    assert skipped.path == "pytorch_model.bin"
    assert skipped.reason == "pytorch_model.bin is a pickle by its name, which can run code when loaded."


def test_paths_that_lead_out_are_left_out(source: HubSource, hub: ForeignHub) -> None:
    hub.extra = [{"type": "file", "path": path, "size": 1, "oid": "0" * 40} for path in ("../x", "/etc/x", "a\\b")]
    assert {skipped.path for skipped in source.describe().skipped} >= {"../x", "/etc/x", "a\\b"}


def test_every_file_comes_whole_and_from_any_offset(source: HubSource) -> None:
    for file in source.describe().files:
        assert read(source, file) == FILES[file.path]
        for offset in {1, file.size // 2, file.size} & set(range(file.size + 1)):
            assert read(source, file, offset=offset) == FILES[file.path][offset:]


def test_the_token_is_for_the_hub_and_not_for_its_cdn(client: httpx.Client, hub: ForeignHub) -> None:
    hub.token = "hf_secret"
    source = HubSource(client, url=hub.at.url(), repo=hub.repo, token="hf_secret")
    read(source, named(source.describe(), WEIGHTS))
    assert {seen.headers.get("authorization") for seen in hub.at.seen} == {"Bearer hf_secret"}
    assert [seen.headers.get("authorization") for seen in hub.cdn.seen] == [None]


def test_a_pin_can_be_gone_on_with_without_listing_again(client: httpx.Client, hub: ForeignHub) -> None:
    source = HubSource(client, url=hub.at.url(), repo=hub.repo, revision=COMMIT)
    file = SourceFile(path="config.json", size=2)
    assert read(source, file) == b"{}"
    assert len(hub.at.seen) == 1


@pytest.mark.parametrize("token", ["", "hf_wrong"])
def test_a_private_model_says_what_the_token_lacks(client: httpx.Client, hub: ForeignHub, token: str) -> None:
    hub.token = "hf_right"
    with pytest.raises(SourceUnauthorized, match="wrong or expired" if token else "give a token"):
        HubSource(client, url=hub.at.url(), repo=hub.repo, token=token).describe()


@pytest.mark.parametrize(
    ("status", "code", "kind", "words"),
    [
        (403, "GatedRepo", SourceUnauthorized, "is gated: accept its terms"),
        (401, "GatedRepo", SourceUnauthorized, "is gated: accept its terms"),
        (404, "RepoNotFound", SourceGone, "has no model acme/tiny"),
        (404, "RevisionNotFound", SourceGone, "no branch, tag or commit 'main'"),
        (403, "", SourceUnauthorized, "HTTP 403"),
        (429, "", SourceUnavailable, "HTTP 429"),
    ],
)
def test_the_hubs_own_codes_are_understood(
    source: HubSource, hub: ForeignHub, status: int, code: str, kind: type[Exception], words: str
) -> None:
    hub.at.answers("/api/models/acme/tiny/revision/main", Reply(status, b"", {"X-Error-Code": code}))
    with pytest.raises(kind, match=words):
        source.describe()


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b'{"sha": 1}',
        b"{}",
        b'{"sha": "main"}',
        b'{"sha": "' + b"g" * 40 + b'"}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_what_is_no_hub_is_told(source: HubSource, hub: ForeignHub, body: bytes) -> None:
    hub.at.answers("/api/models/acme/tiny/revision/main", Reply(200, body))
    with pytest.raises(SourceBroken, match="Hugging Face"):
        source.describe()


@pytest.mark.parametrize(
    "entry",
    [
        {"type": "file", "path": "x"},
        {"type": "file", "path": "x", "size": -5},
        {"type": "file", "path": "x", "size": 1, "lfs": {"oid": "short", "size": 1}},
        {"type": "file", "path": "config.json", "size": 2},
        {"type": "file", "path": 5, "size": 2},
        {"type": "file", "path": "x", "size": 10**30},
    ],
)
def test_a_malformed_tree_is_refused(source: HubSource, hub: ForeignHub, entry: dict[str, object]) -> None:
    hub.extra = [entry]
    with pytest.raises(SourceBroken):
        source.describe()


def test_a_tree_that_goes_on_at_another_address_is_refused(source: HubSource, hub: ForeignHub) -> None:
    link = {"Link": f'<{hub.cdn.url("/more")}>; rel="next"'}
    hub.at.answers(f"/api/models/acme/tiny/tree/{COMMIT}", Reply(200, b"[]", link))
    with pytest.raises(SourceBroken, match="another address"):
        source.describe()
    assert hub.cdn.seen == []


def test_a_tree_that_takes_ages_ends(source: HubSource, hub: ForeignHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that lists does nothing else meanwhile."""
    monkeypatch.setattr(base, "LISTING_SECONDS", -1.0)
    with pytest.raises(SourceUnavailable, match="to list its files"):
        source.describe()


def test_a_tree_of_folders_alone_ends(source: HubSource, hub: ForeignHub) -> None:
    def more(seen: Seen) -> Reply:
        number = len(hub.at.seen)
        folders = b"[" + b",".join([b'{"type":"directory","path":"a"}'] * 50_000) + b"]"
        return Reply(200, folders, {"Link": f'<?cursor={number}>; rel="next"'})

    hub.at.answers(f"/api/models/acme/tiny/tree/{COMMIT}", more)
    with pytest.raises(SourceBroken, match="does not end"):
        source.describe()
    assert len(hub.at.seen) < 10


def test_a_tree_that_goes_round_ends(source: HubSource, hub: ForeignHub) -> None:
    link = {"Link": '<?cursor=1>; rel="next"'}
    hub.at.answers(f"/api/models/acme/tiny/tree/{COMMIT}", Reply(200, b"[]", link))
    with pytest.raises(SourceBroken, match="does not end"):
        source.describe()


def test_too_many_files_are_refused(source: HubSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "MOST_FILES", 5)
    with pytest.raises(SourceBroken, match="more than 5 files"):
        source.describe()


def test_a_server_that_ignores_ranges_is_read_from_the_beginning(source: HubSource, hub: ForeignHub) -> None:
    hub.cdn.answers(f"/cdn/{WEIGHTS}", Reply(200, FILES[WEIGHTS]))
    file = named(source.describe(), WEIGHTS)
    assert read(source, file, offset=300_000) == FILES[WEIGHTS][300_000:]


def test_what_came_before_a_cut_is_kept_and_the_rest_is_fetched(source: HubSource, hub: ForeignHub) -> None:
    whole = FILES[WEIGHTS]
    hub.cdn.answers(f"/cdn/{WEIGHTS}", Reply(200, whole, cut=200_000))
    file = named(source.describe(), WEIGHTS)
    came = b""
    with pytest.raises(SourceUnavailable), source.open(file) as chunks:  # noqa: PT012 - what came before counts
        for chunk in chunks:
            came += chunk
    assert came == whole[: len(came)]
    assert came
    hub.cdn.answers(f"/cdn/{WEIGHTS}", lambda seen: ranged(seen, whole, {}))
    assert came + read(source, file, offset=len(came)) == whole
    assert hub.cdn.seen[-1].headers["range"] == f"bytes={len(came)}-"


def test_a_server_that_ends_a_file_early_without_a_word_is_noticed(source: HubSource, hub: ForeignHub) -> None:
    short = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + FILES[WEIGHTS][:1000]
    hub.cdn.answers(f"/cdn/{WEIGHTS}", Reply(raw=short))
    with pytest.raises(SourceUnavailable, match="511000 bytes early"):
        read(source, named(source.describe(), WEIGHTS))


def changed_length(seen: Seen) -> Reply:
    return ranged(seen, FILES[WEIGHTS] + b"more", {})


def other_part(seen: Seen) -> Reply:
    size = len(FILES[WEIGHTS])
    return Reply(206, FILES[WEIGHTS], {"Content-Range": f"bytes 0-{size - 1}/{size}"})


def unnamed_part(seen: Seen) -> Reply:
    return Reply(206, FILES[WEIGHTS][1000:])


def unasked_part(seen: Seen) -> Reply:
    return Reply(416 if "range" in seen.headers else 206, FILES[WEIGHTS], {"Content-Range": "bytes 0-9/10"})


def longer_without_a_word(seen: Seen) -> Reply:
    return Reply(raw=b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + FILES[WEIGHTS] + b"more")


@pytest.mark.parametrize("offset", [0, 1000])
@pytest.mark.parametrize("route", [changed_length, longer_without_a_word])
def test_another_length_means_another_content(
    source: HubSource, hub: ForeignHub, route: Callable[[Seen], Reply], offset: int
) -> None:
    hub.cdn.answers(f"/cdn/{WEIGHTS}", route)
    with pytest.raises(SourceChanged, match="changed at the source"):
        read(source, named(source.describe(), WEIGHTS), offset=offset)


@pytest.mark.parametrize(
    ("route", "offset"), [(other_part, 1000), (unnamed_part, 1000), (unasked_part, 0), (unasked_part, 1000)]
)
def test_parts_nobody_asked_for_are_not_taken(
    source: HubSource, hub: ForeignHub, route: Callable[[Seen], Reply], offset: int
) -> None:
    hub.cdn.answers(f"/cdn/{WEIGHTS}", route)
    with pytest.raises((SourceBroken, SourceChanged)):
        read(source, named(source.describe(), WEIGHTS), offset=offset)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Repo-Commit": "d" * 40},
        {"X-Repo-Commit": COMMIT, "X-Linked-Size": "5"},
        {"X-Repo-Commit": COMMIT, "X-Linked-ETag": f'"{hashlib.sha256(b"other").hexdigest()}"'},
    ],
)
def test_metadata_of_another_content_is_noticed(source: HubSource, hub: ForeignHub, headers: dict[str, str]) -> None:
    location = {"Location": hub.cdn.url(f"/cdn/{WEIGHTS}")}
    hub.at.answers(f"/acme/tiny/resolve/{COMMIT}/{WEIGHTS}", Reply(302, b"", location | headers))
    with pytest.raises(SourceChanged):
        read(source, named(source.describe(), WEIGHTS))


def test_a_cdn_on_the_inside_is_refused(source: HubSource, hub: ForeignHub) -> None:
    hub.cdn_host = "inside.example"
    with pytest.raises(OutboundRefused, match=r"inside\.example is not on the public Internet"):
        read(source, named(source.describe(), WEIGHTS))


def test_the_cdns_refusal_is_not_blamed_on_the_token(source: HubSource, hub: ForeignHub) -> None:
    hub.cdn.answers(f"/cdn/{WEIGHTS}", Reply(403, b"<Error><Code>Expired</Code><Message>Late</Message></Error>"))
    with pytest.raises(SourceUnauthorized, match="It says: Late"):
        read(source, named(source.describe(), WEIGHTS))


def test_a_missing_file_is_gone(source: HubSource) -> None:
    with pytest.raises(SourceGone, match="no-such"):
        read(source, SourceFile(path="no-such.json", size=3))


@pytest.mark.parametrize(
    "wrong",
    [
        {"repo": "../etc"},
        {"repo": "a/b/c"},
        {"repo": "a/.."},
        {"repo": ""},
        {"revision": ""},
        {"revision": "a\nb"},
        {"token": "a b"},
        {"token": "a\r\nX: y"},
        {"url": "http://127.0.0.2/?a=b"},
    ],
)
def test_wrong_arguments_are_named(client: httpx.Client, wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as refused:
        HubSource(client, **({"url": "http://127.0.0.2", "repo": "acme/tiny"} | wrong))
    assert refused.value.field in wrong


def test_an_offset_behind_the_end_is_refused(source: HubSource) -> None:
    with pytest.raises(InvalidInput):
        read(source, SourceFile(path="config.json", size=2), offset=3)


@pytest.mark.parametrize(
    ("include", "exclude", "left"),
    [
        ([], [], {"a.json", "b/c.json", "b/d.txt"}),
        (["*.json"], [], {"a.json", "b/c.json"}),
        (["b/"], [], {"b/c.json", "b/d.txt"}),
        (["*.json"], ["b/*"], {"a.json"}),
        ([], ["*.txt"], {"a.json", "b/c.json"}),
        (["A.JSON"], [], set()),
    ],
)
def test_patterns_choose_as_those_of_huggingface_hub_do(include: list[str], exclude: list[str], left: set[str]) -> None:
    files = tuple(SourceFile(path=path, size=1) for path in ("a.json", "b/c.json", "b/d.txt"))
    chosen = select(Listing(origin="", pin="", files=files), include=include, exclude=exclude)
    assert {file.path for file in chosen.files} == left
