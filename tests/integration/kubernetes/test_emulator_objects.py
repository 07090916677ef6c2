"""Writes, lists and refusals of the emulator beyond what is recorded."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import urllib3
from kubernetes import client

from tests.fakes.kubernetes import Emulator, Options
from tests.integration.kubernetes.clients import (
    APPLY,
    PARTIAL,
    apply_deployment,
    config_map,
    core_of,
    deployment,
    namespace,
    official,
    told,
)

Json = dict[str, Any]


@pytest.fixture
def space(api: Emulator) -> str:
    return namespace(api)


@pytest.fixture
def core(api: Emulator) -> Any:
    return core_of(api)


def _refused(call: Any, *values: Any, **named: Any) -> client.ApiException:
    with pytest.raises(client.ApiException) as refused:
        call(*values, **named)
    found: client.ApiException = refused.value
    return found


def _applied(core: Any, space: str, body: Json, manager: str, *, force: bool = False) -> Any:
    name = body["metadata"]["name"]
    return core.patch_namespaced_config_map(name, space, body, field_manager=manager, force=force, _content_type=APPLY)


def test_nothing_is_made_in_a_namespace_that_is_not_there(core: Any) -> None:
    refused = _refused(core.create_namespaced_config_map, "nowhere", config_map("a"))
    assert (refused.status, told(refused)["message"]) == (404, 'namespaces "nowhere" not found')


def test_two_managers_that_want_the_same_share_it(space: str, core: Any) -> None:
    _applied(core, space, config_map("a", "1"), "one")
    _applied(core, space, config_map("a", "1"), "two")
    refused = _refused(_applied, core, space, config_map("a", "2"), "one")
    assert 'conflict with "two": .data.value' in told(refused)["message"]
    _applied(core, space, {**config_map("a"), "data": {}}, "two")
    assert _applied(core, space, config_map("a", "2"), "one").data == {"value": "2"}


def test_what_a_manager_no_longer_applies_goes_but_nobody_elses(space: str, core: Any) -> None:
    _applied(core, space, {**config_map("a"), "data": {"mine": "1", "ours": "1"}}, "one")
    _applied(core, space, {**config_map("a"), "data": {"theirs": "1", "ours": "1"}}, "two")
    assert _applied(core, space, {**config_map("a"), "data": {}}, "one").data == {"theirs": "1", "ours": "1"}


def test_a_patch_takes_a_field_from_its_applier(space: str, core: Any) -> None:
    _applied(core, space, config_map("a", "1"), "one")
    core.patch_namespaced_config_map("a", space, {"data": {"value": "edited"}})
    refused = _refused(_applied, core, space, config_map("a", "1"), "one")
    assert 'conflict with "OpenAPI-Generator" using v1: .data.value' in told(refused)["message"]
    assert _applied(core, space, config_map("a", "1"), "one", force=True).data == {"value": "1"}


def test_several_conflicts_are_all_named(space: str, core: Any) -> None:
    _applied(core, space, {**config_map("a"), "data": {"a": "1", "b": "1"}}, "one")
    refused = _refused(_applied, core, space, {**config_map("a"), "data": {"a": "2", "b": "2"}}, "two")
    status = told(refused)
    assert status["message"] == 'Apply failed with 2 conflicts: conflicts with "one":\n- .data.a\n- .data.b'
    assert [each["field"] for each in status["details"]["causes"]] == [".data.a", ".data.b"]


def test_applying_by_many_threads_at_once_loses_nothing(api: Emulator, space: str) -> None:
    def write(number: int) -> None:
        core = core_of(api)
        for each in range(10):
            _applied(core, space, {**config_map("a"), "data": {f"key-{number}": str(each)}}, f"manager-{number}")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = core_of(api).read_namespaced_config_map("a", space)
    assert found.data == {f"key-{number}": "9" for number in range(4)}


def test_quantities_and_zero_values_come_back_as_the_server_keeps_them(api: Emulator, space: str) -> None:
    body = deployment("a")
    container = body["spec"]["template"]["spec"]["containers"][0]
    container["resources"] = {"limits": {"cpu": "1000m", "memory": "1024Mi", "nvidia.com/gpu": "1"}}
    container.update(args=[], tty=False, env=[{"name": "EMPTY", "value": ""}])
    body["spec"]["template"]["spec"].update(serviceAccountName="vllm", hostNetwork=False, nodeSelector={})
    apply_deployment(api, body)
    url = f"{api.url}/apis/apps/v1/namespaces/{space}/deployments/a"
    spec = json.loads(urllib3.request("GET", url).data)["spec"]["template"]["spec"]
    kept = spec["containers"][0]
    assert kept["resources"]["limits"] == {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"}
    assert kept["env"] == [{"name": "EMPTY"}]
    assert not {"args", "tty"} & set(kept)
    assert spec["serviceAccount"] == spec["serviceAccountName"] == "vllm"
    assert not {"hostNetwork", "nodeSelector"} & set(spec)
    version = api.store.version
    apply_deployment(api, body)
    assert api.store.version == version


def test_a_keyed_list_without_its_key_and_with_one_twice_is_refused(api: Emulator, space: str) -> None:
    body = deployment("a")
    env = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    body["spec"]["template"]["spec"]["containers"][0]["env"] = env
    refused = _refused(apply_deployment, api, body)
    assert refused.status == 500
    assert '.env: duplicate entries for key [name="A"]' in told(refused)["message"].replace(
        '.spec.template.spec.containers[name="engine"]', ""
    )


def test_lists_are_chosen_by_labels_and_fields(space: str, core: Any) -> None:
    for name, tier in (("a", "gold"), ("b", "silver"), ("c", "none")):
        core.create_namespaced_config_map(space, config_map(name, **({} if tier == "none" else {"tier": tier})))

    def chosen(**by: str) -> list[str]:
        return [each.metadata.name for each in core.list_config_map_for_all_namespaces(**by).items]

    assert chosen(label_selector="tier") == ["a", "b"]
    assert chosen(label_selector="!tier") == ["c"]
    assert chosen(label_selector="tier in (gold,silver),tier!=gold") == ["b"]
    assert chosen(label_selector="tier notin (gold)") == ["b", "c"]
    assert chosen(label_selector="tier==gold") == ["a"]
    assert chosen(field_selector="metadata.name=c,metadata.namespace=ten-a") == ["c"]
    assert _refused(chosen, field_selector="data.value=1").status == 400


def test_a_page_after_its_snapshot_was_forgotten_is_gone(api: Emulator, space: str, core: Any) -> None:
    for name in "abc":
        core.create_namespaced_config_map(space, config_map(name))
    page = core.list_namespaced_config_map(space, limit=2)
    api.expire_watch_cache()
    refused = _refused(core.list_namespaced_config_map, space, limit=2, _continue=page.metadata._continue)
    assert (refused.status, told(refused)["reason"]) == (410, "Expired")


def test_a_page_does_not_see_what_came_after_the_first(space: str, core: Any) -> None:
    for name in "ac":
        core.create_namespaced_config_map(space, config_map(name))
    page = core.list_namespaced_config_map(space, limit=1)
    core.create_namespaced_config_map(space, config_map("b"))
    rest = core.list_namespaced_config_map(space, limit=5, _continue=page.metadata._continue)
    assert [each.metadata.name for each in rest.items] == ["c"]


def test_a_list_of_metadata_carries_nothing_else(api: Emulator, space: str, core: Any) -> None:
    core.create_namespaced_config_map(space, config_map("a"))
    url = f"{api.url}/api/v1/namespaces/{space}/configmaps"
    found = json.loads(urllib3.request("GET", url, headers={"Accept": PARTIAL}).data)
    assert found["kind"] == "PartialObjectMetadataList"
    assert set(found["items"][0]) == {"kind", "apiVersion", "metadata"}


def test_a_stale_put_is_refused_and_a_fresh_one_taken(space: str, core: Any) -> None:
    body = core.create_namespaced_config_map(space, config_map("a"))
    core.patch_namespaced_config_map("a", space, {"data": {"value": "2"}})
    assert _refused(core.replace_namespaced_config_map, "a", space, body).status == 409
    body.metadata.resource_version = core.read_namespaced_config_map("a", space).metadata.resource_version
    assert core.replace_namespaced_config_map("a", space, body).data == {"value": "1"}


def test_a_pod_on_a_node_is_deleted_in_two_steps(api: Emulator, space: str, core: Any) -> None:
    apply_deployment(api, deployment("a"))
    api.cluster.kubelets.terminate = False
    api.cluster.settle()
    name = api.cluster.pods.all("a-")[0].body["metadata"]["name"]
    assert core.delete_namespaced_pod(name, space).metadata.deletion_grace_period_seconds == 30
    assert core.read_namespaced_pod(name, space).metadata.deletion_timestamp
    core.delete_namespaced_pod(name, space, grace_period_seconds=0)
    assert _refused(core.read_namespaced_pod, name, space).status == 404


def test_a_wrong_token_is_unauthorized_and_tls_is_trusted_by_the_kubeconfig() -> None:
    with Emulator(tls=True, options=Options(token="right")) as api:
        assert core_of(api).list_node().items == []
        refused = _refused(core_of(api, token="wrong").list_node)
        assert (refused.status, told(refused)["reason"]) == (401, "Unauthorized")


def test_a_review_answers_by_the_rule_of_the_test(api: Emulator) -> None:
    api.options.allow = lambda attributes: attributes["verb"] == "get"
    reviews: Any = client.AuthorizationV1Api(official(api))

    def allowed(verb: str) -> bool:
        spec = {"resourceAttributes": {"verb": verb, "resource": "pods"}}
        return bool(reviews.create_self_subject_access_review({"spec": spec}).status.allowed)

    assert (allowed("get"), allowed("delete")) == (True, False)


def test_requests_can_be_refused_and_are_counted(api: Emulator, space: str, core: Any) -> None:
    api.counters.reset()
    api.faults.answer(429, times=1, verb="create", path="configmaps", retry_after=1)
    api.faults.answer(500, verb="list")
    refused = _refused(core.create_namespaced_config_map, space, config_map("a"))
    assert (refused.status, (refused.headers or {})["Retry-After"]) == (429, "1")
    assert _refused(core.list_node).status == 500
    core.create_namespaced_config_map(space, config_map("a"))
    core.create_namespaced_config_map(space, config_map("b"), dry_run="All")
    assert api.counters.counts == {("create", "configmaps"): 2, ("list", "nodes"): 1, ("dryrun", "configmaps"): 1}
    assert [each.status for each in api.counters.writes] == [429, 201]


def test_answers_can_be_late(api: Emulator, core: Any) -> None:
    api.faults.delay(1.0, verb="list", path="nodes")
    with pytest.raises(urllib3.exceptions.HTTPError):
        urllib3.PoolManager(retries=False).request("GET", f"{api.url}/api/v1/nodes", timeout=0.1)
    api.faults.clear()
    assert len(core.list_node().items) == 2


def test_it_runs_as_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "tests.fakes.kubernetes", "--nodes", "1", "--auto-ready"]
    root = Path(__file__).parents[3]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            found = json.loads(urllib3.request("GET", f"{url}/api/v1/nodes").data)
            assert [each["metadata"]["name"] for each in found["items"]] == ["gpu-0"]
            counted = json.loads(urllib3.request("GET", f"{url}/_control/counters").data)
            assert counted == {"requests": [{"verb": "list", "resource": "nodes", "count": 1}], "writes": 0}
            urllib3.request("POST", f"{url}/_control/reset")
            assert json.loads(urllib3.request("GET", f"{url}/_control/counters").data)["requests"] == []
        finally:
            process.terminate()
    assert process.returncode == 0
