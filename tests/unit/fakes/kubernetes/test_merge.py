"""Patches, by the rules of their kinds."""

from __future__ import annotations

import pytest

from tests.fakes.kubernetes import merge, schema
from tests.fakes.kubernetes.errors import Refusal

_POD = schema.of("io.k8s.api.core.v1.Pod")


def test_a_merge_patch_replaces_lists_and_removes_with_null() -> None:
    body = {"a": {"b": 1, "c": 2}, "list": [1, 2]}
    assert merge.merge_patch(body, {"a": {"b": None}, "list": [3]}) == {"a": {"c": 2}, "list": [3]}
    assert body == {"a": {"b": 1, "c": 2}, "list": [1, 2]}


def test_a_strategic_patch_merges_containers_by_name() -> None:
    body = {"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}}
    patch = {"spec": {"containers": [{"name": "b", "image": "2"}, {"name": "a", "$patch": "delete"}]}}
    assert merge.strategic(body, patch, _POD) == {"spec": {"containers": [{"name": "b", "image": "2"}]}}


def test_a_strategic_patch_replaces_where_it_says_so() -> None:
    body = {"spec": {"containers": [{"name": "a"}], "nodeSelector": {"x": "1"}}}
    patch = {
        "spec": {"containers": [{"$patch": "replace"}, {"name": "c"}], "nodeSelector": {"$patch": "replace", "y": "2"}}
    }
    assert merge.strategic(body, patch, _POD) == {"spec": {"containers": [{"name": "c"}], "nodeSelector": {"y": "2"}}}


def test_applying_keeps_the_order_of_the_applier_and_what_others_added() -> None:
    env = _POD.child("spec").child("containers").element.child("env")
    live = [{"name": "A", "value": "1"}, {"name": "X", "value": "1"}, {"name": "B", "value": "1"}]
    config = [{"name": "A", "value": "2"}, {"name": "B"}, {"name": "C"}]
    assert [each["name"] for each in merge.applied(live, config, env)] == ["A", "X", "B", "C"]


def test_a_json_patch_does_what_its_operations_say() -> None:
    body = {"a": [1, 2], "b/c": {"d": 1}}
    operations = [
        {"op": "add", "path": "/a/-", "value": 3},
        {"op": "replace", "path": "/b~1c/d", "value": 2},
        {"op": "remove", "path": "/a/0"},
        {"op": "test", "path": "/a/0", "value": 2},
        {"op": "copy", "from": "/a", "path": "/e"},
    ]
    assert merge.json_patch(body, operations) == {"a": [2, 3], "b/c": {"d": 2}, "e": [2, 3]}


def test_a_json_patch_that_does_not_fit_is_refused() -> None:
    with pytest.raises(Refusal) as refused:
        merge.json_patch({"a": 1}, [{"op": "test", "path": "/a", "value": 2}])
    assert refused.value.code == 422
