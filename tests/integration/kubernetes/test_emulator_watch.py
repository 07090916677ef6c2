"""The emulator's watches, as clients of a real API server meet them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3
from kubernetes import client, watch

from tests.fakes.kubernetes import Emulator, Options
from tests.integration.kubernetes.clients import PARTIAL, config_map, core_of, eventually, namespace

Json = dict[str, Any]


@pytest.fixture
def space(api: Emulator) -> str:
    return namespace(api)


@pytest.fixture
def core(api: Emulator) -> Any:
    return core_of(api)


class Watching:
    """A raw watch of the namespace's ConfigMaps in a thread: what came, and how it ended."""

    def __init__(self, api: Emulator, query: str, accept: str = "application/json") -> None:
        url = f"{api.url}/api/v1/namespaces/ten-a/configmaps?watch=1&{query}"
        self.answer = urllib3.PoolManager(retries=False).request(
            "GET", url, preload_content=False, headers={"Accept": accept}, timeout=20
        )
        self.lines: list[bytes] = []
        self.end: Exception | None = None
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        try:
            for piece in self._pieces():
                self.lines.append(piece)
        except urllib3.exceptions.HTTPError as error:
            self.end = error

    def _pieces(self) -> Iterator[bytes]:
        rest = b""
        for chunk in self.answer.stream():
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
        if rest:
            yield rest

    @property
    def events(self) -> list[Json]:
        return [json.loads(line) for line in self.lines]

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(each["type"], each["object"]["metadata"].get("name", "")) for each in self.events]

    def ended(self) -> bool:
        return not self.thread.is_alive()


def _stream(*values: Any, **named: Any) -> Iterator[Any]:
    """The official client's watch."""
    watching: Any = watch.Watch
    return watching().stream(*values, **named)  # type: ignore[no-any-return]


def test_a_watch_goes_on_from_where_a_list_ended(api: Emulator, space: str, core: Any) -> None:
    core.create_namespaced_config_map(space, config_map("before"))
    version = core.list_namespaced_config_map(space).metadata.resource_version
    core.create_namespaced_config_map(space, config_map("after"))
    core.delete_namespaced_config_map("after", space)
    stream = _stream(core.list_namespaced_config_map, space, resource_version=version, timeout_seconds=1)
    assert [(each["type"], each["object"].metadata.name) for each in stream] == [
        ("ADDED", "after"),
        ("DELETED", "after"),
    ]


def test_a_watch_from_nothing_begins_with_what_there_is(api: Emulator, space: str, core: Any) -> None:
    core.create_namespaced_config_map(space, config_map("a"))
    watching = Watching(api, "timeoutSeconds=1")
    eventually(watching.ended)
    assert watching.told == [("ADDED", "a")]


def test_an_object_that_no_longer_matches_is_deleted_for_the_watch(api: Emulator, space: str, core: Any) -> None:
    core.create_namespaced_config_map(space, config_map("a", mine="yes"))
    version = core.list_namespaced_config_map(space).metadata.resource_version
    watching = Watching(api, f"resourceVersion={version}&labelSelector=mine%3Dyes")
    core.create_namespaced_config_map(space, config_map("b"))
    core.patch_namespaced_config_map("a", space, {"metadata": {"labels": {"mine": "no"}}})
    core.patch_namespaced_config_map("a", space, {"metadata": {"labels": {"mine": "yes"}}})
    eventually(lambda: len(watching.lines) == 2)
    assert watching.told == [("DELETED", "a"), ("ADDED", "a")]


def test_bookmarks_tell_how_far_the_watch_has_come(api: Emulator, space: str, core: Any) -> None:
    api.options.bookmark_seconds = 0.05
    watching = Watching(api, "resourceVersion=2&allowWatchBookmarks=true&labelSelector=no%3Done")
    core.create_namespaced_config_map(space, config_map("a"))
    version = str(api.store.version)
    eventually(lambda: any(each["object"]["metadata"]["resourceVersion"] == version for each in watching.events))
    assert {each["type"] for each in watching.events} == {"BOOKMARK"}


def test_a_watch_of_metadata_carries_nothing_else(api: Emulator, space: str, core: Any) -> None:
    core.create_namespaced_config_map(space, config_map("a"))
    watching = Watching(api, "timeoutSeconds=1", accept=PARTIAL.replace("List", ""))
    eventually(watching.ended)
    found = watching.events[0]["object"]
    assert (found["kind"], set(found)) == ("PartialObjectMetadata", {"kind", "apiVersion", "metadata"})


def test_a_version_that_is_forgotten_is_an_error_inside_the_stream(api: Emulator, space: str, core: Any) -> None:
    api.expire_watch_cache()
    stream = _stream(core.list_namespaced_config_map, space, resource_version="2", timeout_seconds=5)
    with pytest.raises(client.ApiException) as refused:
        list(stream)
    assert refused.value.status == 410


def test_a_version_that_is_forgotten_may_be_refused_at_once(api: Emulator, space: str) -> None:
    api.expire_watch_cache(as_event=False)
    watching = Watching(api, "resourceVersion=2")
    eventually(watching.ended)
    assert watching.answer.status == 410
    assert watching.events[0]["reason"] == "Expired"


def test_a_running_watch_can_be_told_that_it_is_too_old(api: Emulator, space: str, core: Any) -> None:
    watching = Watching(api, f"resourceVersion={api.store.version}")
    eventually(lambda: api.counters.of("watch") == 1)
    api.expire_watch_cache(break_open=True)
    eventually(watching.ended)
    assert [each["object"]["code"] for each in watching.events] == [410]


def test_after_a_relist_watching_works_again(api: Emulator, space: str, core: Any) -> None:
    api.expire_watch_cache()
    version = core.list_namespaced_config_map(space).metadata.resource_version
    watching = Watching(api, f"resourceVersion={version}&timeoutSeconds=1")
    core.create_namespaced_config_map(space, config_map("a"))
    eventually(watching.ended)
    assert watching.told == [("ADDED", "a")]


def test_a_half_open_watch_stays_and_says_nothing(api: Emulator, space: str, core: Any) -> None:
    api.options.bookmark_seconds = 0.02
    watching = Watching(api, f"resourceVersion={api.store.version}&allowWatchBookmarks=true&timeoutSeconds=1")
    api.faults.freeze_watches(path="configmaps")
    eventually(lambda: api.counters.of("watch") == 1)
    heard = len(watching.lines)
    core.create_namespaced_config_map(space, config_map("a"))
    deadline = time.monotonic() + 1.3
    eventually(lambda: time.monotonic() > deadline)
    assert not watching.ended()
    assert len(watching.lines) <= heard + 1  # a bookmark that was on its way
    api.faults.clear()
    core.create_namespaced_config_map(space, config_map("b"))
    eventually(lambda: ("ADDED", "b") in watching.told)
    assert ("ADDED", "a") in watching.told


def test_a_cut_watch_ends_in_the_middle_of_a_line(api: Emulator, space: str, core: Any) -> None:
    watching = Watching(api, f"resourceVersion={api.store.version}")
    api.faults.cut_watch()
    core.create_namespaced_config_map(space, config_map("a"))
    eventually(watching.ended)
    assert watching.end is not None
    for line in watching.lines:
        with pytest.raises(json.JSONDecodeError):
            json.loads(line)


def test_a_server_that_goes_down_cuts_its_watches_and_comes_back_with_everything(
    api: Emulator, space: str, core: Any
) -> None:
    core.create_namespaced_config_map(space, config_map("a"))
    watching = Watching(api, f"resourceVersion={api.store.version}")
    eventually(lambda: api.counters.of("watch") == 1)
    api.down()
    eventually(watching.ended)
    assert watching.end is not None
    with pytest.raises(urllib3.exceptions.HTTPError):
        urllib3.PoolManager(retries=False).request("GET", f"{api.url}/version", timeout=2)
    api.up()
    assert [each.metadata.name for each in core.list_namespaced_config_map(space).items] == ["a"]


def test_a_list_by_watch_ends_with_a_mark_where_the_server_can_do_it() -> None:
    with Emulator(options=Options(watch_list=True)) as api:
        space = namespace(api)
        core_of(api).create_namespaced_config_map(space, config_map("a"))
        watching = Watching(
            api, "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
        )
        eventually(watching.ended)
    assert watching.told == [("ADDED", "a"), ("BOOKMARK", "")]
    assert watching.events[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
