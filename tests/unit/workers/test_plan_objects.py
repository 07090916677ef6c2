"""plan_objects: rows of (what is wanted, what is there) → what is done, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from freehold.fleet.cluster_settings import ClusterSettings, parse
from tests.factories.workloads import replica, workload
from workers.manifests.kubernetes import names
from workers.manifests.kubernetes.endpoint import endpoint_objects
from workers.manifests.kubernetes.tenant import tenant_objects
from workers.reconcile.plan import Plan
from workers.reconcile.plan_objects import (
    Finalization,
    key_of,
    plan_endpoint,
    plan_finalize,
    plan_tenant,
)
from workers.runtimes.base import Exit, ObjectKey, ObservedObject, ObservedReplica, ReplicaState, Verb

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
IMAGE = "registry.example/freehold@sha256:" + "a" * 64
SETTINGS: ClusterSettings = parse({"images": {"fetcher": IMAGE}, "network": {"hub_url": "https://hub.example"}})
SPEC = workload(cluster="cls_1", engine_digest="sha256:" + "b" * 64)
WANTED = endpoint_objects(SPEC, SETTINGS)
TENANT = tenant_objects(tenant="tnt_1", slug="acme", cluster="cls_1", settings=SETTINGS)
PLENTY = NOW + timedelta(minutes=50)

Objects = dict[ObjectKey, ObservedObject]


def there(*manifests: Mapping[str, Any], token_until: datetime = PLENTY, deleting: bool = False) -> Objects:
    """Objects as the server has them, with what it adds."""
    found = {}
    for manifest in manifests:
        metadata = {**manifest["metadata"], "uid": f"uid of {manifest['kind']}", "resourceVersion": "7"}
        if manifest["kind"] == "Secret":
            expiry = {names.TOKEN_EXPIRES: token_until.isoformat()}
            metadata["annotations"] = {**metadata["annotations"], **expiry}
        content = {**manifest, "metadata": metadata}
        key = key_of(manifest)
        document = msgspec.json.encode(content)
        found[key] = ObservedObject(key=key, uid=metadata["uid"], document=document, deleting=deleting)
    return found


def verbs(plan: Plan) -> list[tuple[str, str]]:
    return [(action.verb.value, action.object.kind if action.object else "") for action in plan.actions]


def edited(objects: Objects, kind: str, **spec: Any) -> Objects:
    key = next(key for key in objects if key.kind == kind)
    found = objects[key]
    content = {**found.content, "spec": {**found.content["spec"], **spec}}
    return {**objects, key: replace(found, document=msgspec.json.encode(content))}


def without(objects: Objects, kind: str) -> Objects:
    return {key: found for key, found in objects.items() if key.kind != kind}


def test_everything_is_created_in_order_and_the_secret_gets_a_token() -> None:
    made = plan_endpoint(WANTED, {}, (), NOW)
    assert verbs(made) == [
        ("create", "Secret"), ("create", "Service"), ("create", "PodDisruptionBudget"), ("create", "Deployment"),
    ]  # fmt: skip
    assert [action.needs_token for action in made.actions] == [True, False, False, False]
    assert plan_tenant(TENANT, {}).steps[0].object == ObjectKey("Namespace", "", "fh-tnt-1")


def test_what_is_as_asked_for_is_kept_with_a_reason() -> None:
    made = plan_endpoint(WANTED, there(*WANTED), (), NOW)
    assert made.steps == ()
    assert made.next_at is None
    assert {(action.verb, action.reason) for action in made.actions} == {(Verb.KEEP, "is as asked for")}
    assert plan_tenant(TENANT, there(*TENANT)).steps == ()


def test_a_hand_edited_object_is_applied_again_and_the_field_is_named() -> None:
    (step,) = plan_endpoint(WANTED, edited(there(*WANTED), "Deployment", replicas=5), (), NOW).steps
    assert (step.verb, step.reason) == (Verb.APPLY, "was changed by somebody else: spec.replicas")


def test_a_changed_spec_is_applied_and_says_that_it_was_asked_for() -> None:
    wanted = endpoint_objects(workload(cluster="cls_1", engine_digest=SPEC.engine_digest, replicas=3), SETTINGS)
    (step,) = plan_endpoint(wanted, there(*WANTED), (), NOW).steps
    assert step.object is not None
    assert step.object.kind == "Deployment"
    assert step.reason.startswith("is to be changed: ")
    assert "spec.replicas" in step.reason


def test_a_deleted_child_alone_is_created() -> None:
    for kind in ("Secret", "Service", "PodDisruptionBudget", "Deployment"):
        made = plan_endpoint(WANTED, without(there(*WANTED), kind), (), NOW)
        assert [(step.verb.value, step.object and step.object.kind) for step in made.steps] == [("create", kind)]


def test_an_object_that_is_being_deleted_is_waited_for() -> None:
    live = {**there(*WANTED[:-1]), **there(WANTED[-1], deleting=True)}
    made = plan_endpoint(WANTED, live, (), NOW)
    assert made.steps == ()
    assert made.next_at is not None
    assert verbs(made)[-1] == ("wait", "Deployment")


def test_what_is_no_longer_wanted_is_deleted_by_its_uid() -> None:
    group = {**WANTED[-1], "kind": "LeaderWorkerSet"}
    (step,) = plan_endpoint(WANTED, {**there(*WANTED), **there(group)}, (), NOW).steps
    assert (step.verb, step.uid, step.reason) == (
        Verb.DELETE, "uid of LeaderWorkerSet", "is no longer part of the endpoint",
    )  # fmt: skip


def fetching(**changes: Any) -> ObservedReplica:
    return replica("a", ReplicaState.FETCHING, **changes)


def refused_at(at: datetime) -> ObservedReplica:
    end = Exit(at=at, reason="FetchUnauthorized", message="no", code=3)
    return replica("a", ReplicaState.BACKOFF, exit=end)


@pytest.mark.parametrize(
    ("left", "replicas", "renewed"),
    [
        (timedelta(minutes=50), (), False),
        (timedelta(minutes=-600), (), False),  # nobody fetches: a token that opens nothing may lie there
        (timedelta(minutes=50), (fetching(),), False),
        (timedelta(minutes=10), (fetching(),), True),
        (timedelta(minutes=-600), (fetching(),), True),
        (timedelta(minutes=-600), (replica("a", ReplicaState.PENDING),), True),
        (timedelta(minutes=-600), (replica("a", ReplicaState.READY),), False),
        (timedelta(minutes=50), (refused_at(NOW - timedelta(minutes=5)),), True),
        (timedelta(minutes=59), (refused_at(NOW - timedelta(minutes=5)),), False),  # it was renewed since
    ],
)
def test_a_token_is_renewed_only_while_somebody_fetches_with_it(
    left: timedelta, replicas: tuple[ObservedReplica, ...], renewed: bool
) -> None:
    made = plan_endpoint(WANTED, there(*WANTED, token_until=NOW + left), replicas, NOW)
    assert [step.object and step.object.kind for step in made.steps] == (["Secret"] if renewed else [])
    assert all(step.needs_token for step in made.steps)


def test_new_pods_get_a_fresh_token_before_they_are_made() -> None:
    wanted = endpoint_objects(workload(cluster="cls_1", engine_digest=SPEC.engine_digest, replicas=3), SETTINGS)
    made = plan_endpoint(wanted, there(*WANTED, token_until=NOW), (), NOW)
    assert [step.object and step.object.kind for step in made.steps] == ["Secret", "Deployment"]


def test_a_secret_without_a_readable_expiry_is_renewed_when_it_is_needed() -> None:
    live = there(*WANTED)
    key = next(key for key in live if key.kind == "Secret")
    content = {**live[key].content}
    content["metadata"] = {**content["metadata"], "annotations": dict(WANTED[0]["metadata"]["annotations"])}
    live[key] = replace(live[key], document=msgspec.json.encode(content))
    assert len(plan_endpoint(WANTED, live, (fetching(),), NOW).steps) == 1


# Deletion


def finalization(*, asked: timedelta = timedelta(minutes=1), last: bool = True, deleting: bool = False) -> Finalization:
    namespace = next(iter(there(TENANT[0], deleting=deleting).values()))
    return Finalization(asked_at=NOW - asked, drain=timedelta(seconds=5), namespace=namespace if last else None)


def kinds(plan: Plan) -> list[str]:
    return [step.object.kind for step in plan.steps if step.object]


def test_deletion_goes_in_stages_and_waits_for_each() -> None:
    live = there(*WANTED)
    draining = plan_finalize(finalization(asked=timedelta(seconds=1)), live, (), NOW)
    assert (draining.steps, draining.next_at) == ((), NOW + timedelta(seconds=4))

    assert kinds(plan_finalize(finalization(), live, (), NOW)) == ["Deployment"]

    going = {**without(live, "Deployment"), **there(WANTED[-1], deleting=True)}
    waiting = plan_finalize(finalization(), going, (), NOW)
    assert waiting.steps == ()
    assert waiting.next_at is not None

    pods_left = plan_finalize(finalization(), without(live, "Deployment"), (replica("a", ReplicaState.STOPPING),), NOW)
    assert pods_left.steps == (), "a pod may still be reading what its Service and Secret give it"

    rest = without(live, "Deployment")
    assert kinds(plan_finalize(finalization(), rest, (), NOW)) == ["PodDisruptionBudget", "Service"]
    assert kinds(plan_finalize(finalization(), there(WANTED[0]), (), NOW)) == ["Secret"]
    assert kinds(plan_finalize(finalization(), {}, (), NOW)) == ["Namespace"]
    assert plan_finalize(finalization(deleting=True), {}, (), NOW) == Plan(())
    assert plan_finalize(finalization(last=False), {}, (), NOW) == Plan(())


def test_deleting_twice_changes_nothing() -> None:
    live = there(*WANTED, deleting=True)
    assert plan_finalize(finalization(), live, (), NOW).steps == ()
