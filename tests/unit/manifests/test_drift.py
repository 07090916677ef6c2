"""Drift as server-side apply sees it, held against what a Kubernetes 1.36.2 API server answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.manifests.cases import CASES, settings, spec
from workers.manifests.kubernetes.drift import differences
from workers.manifests.kubernetes.endpoint import endpoint_objects
from workers.manifests.kubernetes.manifest import Manifest

ANSWERS = {answer["name"]: answer for answer in json.loads((Path(__file__).parent / "server_answers.json").read_text())}
CONTAINER = "spec.template.spec.containers[engine]"


def _as_the_server_fills_in(mine: Any, applied: Any, answered: Any) -> Any:
    """What the server made of `applied` to give `answered`, done to `mine`."""
    if isinstance(mine, dict) and isinstance(answered, dict):
        known = applied if isinstance(applied, dict) else {}
        added = {key: value for key, value in answered.items() if key not in known and key not in mine}
        return added | {
            key: _as_the_server_fills_in(value, known.get(key), answered[key]) if key in answered else value
            for key, value in mine.items()
        }
    if isinstance(mine, list) and isinstance(applied, list) and isinstance(answered, list) and applied:
        return [_as_the_server_fills_in(item, applied[0], answered[0]) for item in mine]
    return mine


def _deployment() -> Manifest:
    return CASES["chat"].objects()[-1]


def _live(manifest: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(manifest))
    return found


@pytest.mark.parametrize("name", ANSWERS)
def test_what_the_server_answers_to_an_apply_is_no_drift(name: str) -> None:
    answer = ANSWERS[name]
    assert differences(answer["applied"], answer["answered"]) == ()


def test_what_was_changed_since_is_named() -> None:
    wanted = ANSWERS["deployment-apply-create"]["applied"]
    scaled = ANSWERS["deployment-apply-scale"]["answered"]
    without = ANSWERS["deployment-apply-field-removed"]["answered"]
    assert differences(wanted, scaled) == ("spec.replicas",)
    assert differences(wanted, without) == ("spec.replicas", "spec.template.spec.containers[vllm].env")


@pytest.mark.parametrize("name", CASES)
def test_our_own_objects_do_not_drift_by_what_the_server_fills_in(name: str) -> None:
    recorded = {answer["applied"]["kind"]: answer for answer in ANSWERS.values()}
    for manifest in CASES[name].objects():
        answer = recorded.get(manifest["kind"])
        live = _live(manifest)
        if answer is not None:
            live = _as_the_server_fills_in(live, answer["applied"], answer["answered"])
            assert live != manifest or manifest["kind"] not in {"Namespace", "Service", "Deployment"}
        assert differences(manifest, {**live, "status": {"phase": "Active"}}) == ()


def test_items_of_lists_leave_kind_and_version_out() -> None:
    manifest = _deployment()
    live = {key: value for key, value in _live(manifest).items() if key not in {"kind", "apiVersion"}}
    assert differences(manifest, live) == ()


def test_a_removed_security_setting_is_drift() -> None:
    live = _live(_deployment())
    container = live["spec"]["template"]["spec"]["containers"][0]
    del container["securityContext"]["allowPrivilegeEscalation"]
    container["securityContext"]["capabilities"]["drop"] = []
    live["spec"]["template"]["spec"]["automountServiceAccountToken"] = True
    assert differences(_deployment(), live) == (
        "spec.template.spec.automountServiceAccountToken",
        f"{CONTAINER}.securityContext.allowPrivilegeEscalation",
        f"{CONTAINER}.securityContext.capabilities.drop",
    )


def test_a_replaced_image_and_argument_are_drift() -> None:
    live = _live(_deployment())
    container = live["spec"]["template"]["spec"]["containers"][0]
    container["image"] = "docker.io/evil"
    container["args"].append("--trust-remote-code")
    assert differences(_deployment(), live) == (f"{CONTAINER}.image", f"{CONTAINER}.args")


def test_what_others_set_beside_ours_is_theirs() -> None:
    live = _live(_deployment())
    live["metadata"]["annotations"]["example.com/seen-by"] = "a policy"
    live["metadata"]["finalizers"] = ["example.com/wait"]
    pod = live["spec"]["template"]["spec"]
    pod["containers"].insert(0, {"name": "sidecar", "image": "example.com/mesh"})
    pod["volumes"].insert(0, {"name": "mesh", "emptyDir": {}})
    assert differences(_deployment(), live) == ()


def test_a_container_that_is_gone_is_named_once() -> None:
    live = _live(_deployment())
    live["spec"]["template"]["spec"]["containers"] = [{"name": "other"}]
    assert differences(_deployment(), live) == (CONTAINER,)


def test_quantities_are_compared_by_what_they_say() -> None:
    wanted = endpoint_objects(spec(), settings(resources={"cpu_per_accelerator": "8000m", "scratch": "20480Mi"}))[-1]
    live = _live(wanted)
    pod = live["spec"]["template"]["spec"]
    pod["containers"][0]["resources"]["limits"]["cpu"] = "8"
    pod["containers"][0]["resources"]["requests"]["cpu"] = 8
    pod["volumes"][1]["emptyDir"]["sizeLimit"] = "20Gi"
    assert differences(wanted, live) == ()
    pod["containers"][0]["resources"]["limits"]["cpu"] = "9"
    assert differences(wanted, live) == (f"{CONTAINER}.resources.limits.cpu",)


def test_a_limit_range_may_be_answered_in_other_units() -> None:
    wanted = CASES["chat"].tenant()[4]
    live = _live(wanted)
    live["spec"]["limits"][0]["default"] = {"cpu": "1000m", "memory": "0.5Gi"}
    assert differences(wanted, live) == ()
    live["spec"]["limits"][0]["default"]["memory"] = "1Gi"
    assert differences(wanted, live) == ("spec.limits",)


def test_an_open_network_policy_is_drift() -> None:
    policy = CASES["chat"].tenant()[2]
    changes: list[dict[str, Any]] = [
        {"ingress": [{}]},
        {"egress": [*policy["spec"]["egress"], {}]},
        {"podSelector": {}},
        {"policyTypes": ["Ingress"]},
    ]
    for change in changes:
        live = _live(policy)
        live["spec"].update(change)
        assert differences(policy, live) == (f"spec.{next(iter(change))}",)


def test_a_widened_peer_is_drift() -> None:
    policy = CASES["chat"].tenant()[2]
    live = _live(policy)
    live["spec"]["ingress"][0]["from"][0]["namespaceSelector"] = {}
    assert differences(policy, live) == ("spec.ingress",)
    live = _live(policy)
    del live["spec"]["ingress"][0]["from"][0]["podSelector"]
    assert differences(policy, live) == ("spec.ingress",)


def test_what_a_secret_holds_is_not_compared() -> None:
    secret = CASES["chat"].objects()[-4]
    assert secret["kind"] == "Secret"
    live = _live(secret) | {"data": {"token": "c2VjcmV0"}}
    live["metadata"]["annotations"]["freehold.dev/token-expires-at"] = "2026-11-23T13:00:00Z"
    assert differences(secret, live) == ()
    live["metadata"]["labels"].clear()
    assert 'metadata.labels."freehold.dev/endpoint"' in differences(secret, live)


def test_zeroes_that_the_server_leaves_out_are_no_drift() -> None:
    wanted = endpoint_objects(spec(), settings(rollout={"min_ready": 0}))
    service, deployment = _live(wanted[1]), _live(wanted[-1])
    del service["spec"]["publishNotReadyAddresses"]
    del deployment["spec"]["minReadySeconds"]
    assert differences(wanted[1], service) == ()
    assert differences(wanted[-1], deployment) == ()


def test_no_replicas_is_not_the_same_as_none_said() -> None:
    wanted = CASES["no-replicas"].objects()[-1]
    live = _live(wanted)
    live["spec"]["replicas"] = 1
    assert differences(wanted, live) == ("spec.replicas",)
    del live["spec"]["replicas"]
    assert differences(wanted, live) == ("spec.replicas",)
