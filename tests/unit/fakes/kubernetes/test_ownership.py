"""Server-side apply: laws that hold whatever is applied."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.kubernetes import ownership, schema
from tests.fakes.kubernetes.ownership import APPLY, UPDATE, Writer

Json = dict[str, Any]

_NODE = schema.of("io.k8s.api.core.v1.Pod")
_NOW = "2026-01-01T00:00:00Z"

_labels = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["1", "2"]), min_size=1)
_env = st.dictionaries(st.sampled_from(["A", "B", "C"]), st.sampled_from(["1", "2"]), min_size=1)


@st.composite
def _configs(draw: st.DrawFn) -> Json:
    """A pod as somebody might apply it: labels, and a container with variables."""
    env = [{"name": name, "value": value} for name, value in draw(_env).items()]
    return {"metadata": {"labels": draw(_labels)}, "spec": {"containers": [{"name": "engine", "env": env}]}}


def _apply(live: Json, managed: list[Json], config: Json, manager: str) -> tuple[Json, list[Json]]:
    writer = Writer(manager, APPLY, "v1")
    return ownership.apply(live, config, _NODE, writer, force=True, now=_NOW, managed=managed)


def _flat(body: Json) -> Json:
    env = body["spec"]["containers"][0].get("env", [])
    return {
        **{f"label {name}": value for name, value in body["metadata"]["labels"].items()},
        **{f"env {each['name']}": each.get("value") for each in env},
    }


@settings(deadline=None)
@given(_configs(), _configs())
def test_a_single_appliers_object_is_what_it_applied_last(first: Json, second: Json) -> None:
    live, managed = _apply({}, [], first, "one")
    live, managed = _apply(live, managed, second, "one")
    assert _flat(live) == _flat(second)


@settings(deadline=None)
@given(_configs(), _configs(), _configs())
def test_the_last_word_counts_and_nothing_of_the_others_is_lost(first: Json, second: Json, third: Json) -> None:
    live, managed = _apply({}, [], first, "one")
    live, managed = _apply(live, managed, second, "two")
    live, managed = _apply(live, managed, third, "one")
    wanted = {**_flat(second), **_flat(third)}
    assert _flat(live) == wanted


@settings(deadline=None)
@given(_configs(), _configs())
def test_applying_twice_changes_nothing(first: Json, second: Json) -> None:
    live, managed = _apply({}, [], first, "one")
    live, managed = _apply(live, managed, second, "two")
    assert _apply(live, managed, second, "two") == (live, managed)


@settings(deadline=None)
@given(_configs(), _configs())
def test_an_update_is_owned_by_who_made_it(first: Json, second: Json) -> None:
    live, managed = _apply({}, [], first, "one")
    writer = Writer("editor", UPDATE, "v1")
    after = ownership.update(live, second, _NODE, writer, now=_NOW, managed=managed)
    changed = {name for name, value in _flat(second).items() if _flat(live).get(name) != value}
    editors = [each for each in after if each["manager"] == "editor"]
    assert bool(editors) == bool(changed)
    owned: Json = next((each["fieldsV1"] for each in after if each["manager"] == "one"), {})
    labels = owned.get("f:metadata", {}).get("f:labels", {})
    assert not {f"label {name[2:]}" for name in labels if name != "."} & changed
