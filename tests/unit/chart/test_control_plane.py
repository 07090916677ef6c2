"""Web, workers, watcher, beat and migrations: what they run, wait for and may do in a cluster."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand

from freehold.config.settings import base
from freehold.fleet import cluster_settings
from freehold.operations.queues import QUEUES
from tests.factories import charts
from tests.factories.charts import CASES, Manifest, pick
from workers.runtimes.kubernetes import discovery, resources

CONTROL = {"web", "worker", "watcher", "beat"}


def component(template: Manifest) -> str:
    return str(template["metadata"]["labels"]["app.kubernetes.io/component"])


@pytest.mark.parametrize("case", CASES)
def test_everything_of_the_control_plane_waits_for_the_schema(case: str) -> None:
    for where, template in charts.templates(charts.rendered(case)):
        waits = [one["name"] for one in template["spec"].get("initContainers", ())]
        assert (waits == ["wait-for-schema"]) is (component(template) in CONTROL), where


def test_a_revision_has_a_migration_of_its_own_and_it_is_no_hook() -> None:
    names = set()
    for revision, tag in ((1, "1.0"), (2, "1.0"), (2, "1.1")):
        given = charts.values("existing-secrets", image={"tag": tag, "digest": ""})
        (job,) = [item for item in charts.objects(given, revision=revision) if item["kind"] == "Job"]
        names.add(job["metadata"]["name"])
        assert not job["metadata"].get("annotations")
    assert len(names) == 3


def test_every_command_that_pods_and_notes_name_exists() -> None:
    known = get_commands()
    for case in CASES:
        told = re.findall(r"manage\.py (\w+)", charts.notes(charts.values(case)))
        run = re.findall(r"manage\.py', '(\w+)'", str(charts.rendered(case)))
        assert set(told) | set(run) <= set(known)


@pytest.mark.parametrize("case", CASES)
def test_every_option_that_the_notes_name_is_the_commands_own(case: str) -> None:
    """Not Django's: its --settings would name a module."""
    everybodys = set(BaseCommand().create_parser("manage.py", "any")._option_string_actions)
    text = charts.notes(charts.values(case)).replace("\\\n", " ")
    for name, rest in re.findall(r"manage\.py (\w+)(.*)", text):
        parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
        assert set(re.findall(r"--[\w-]+", rest)) <= set(parser._option_string_actions) - everybodys, name


@pytest.mark.parametrize("case", ["minimum", "existing-secrets", "everything", "evaluation"])
def test_the_cluster_settings_in_the_notes_are_taken_and_fit_this_release(case: str) -> None:
    text = charts.notes(charts.values(case))
    document = text.split("<<'JSON'\n")[1].split("  JSON\n")[0]
    for gap, filled in (("sha256:…", "sha256:" + "0" * 64), (r"ADDRESS-OF-[\w.-]+", "203.0.113.7")):
        document = re.sub(gap, filled, document)
    settings = cluster_settings.parse(json.loads(document))
    (peer,) = settings.network.gateway
    gateway = pick(charts.rendered(case), "StatefulSet", f"{prefix(case)}-gateway")["spec"]["template"]
    assert peer["podSelector"]["matchLabels"].items() <= gateway["metadata"]["labels"].items()
    assert charts.NAMESPACE in peer["namespaceSelector"]["matchLabels"].values()
    policy = pick(charts.rendered(case), "ValidatingAdmissionPolicy", f"{prefix(case)}-freehold-worker")
    assert f"'{settings.namespace_prefix}'" in policy["spec"]["validations"][0]["expression"]
    engines = pick(charts.rendered(case), "NetworkPolicy", f"{prefix(case)}-gateway")["spec"]["egress"][-1]
    assert engines["ports"][0]["port"] == settings.engine_port


def prefix(case: str) -> str:
    return str(charts.values(case).get("fullnameOverride", charts.RELEASE))


def test_every_queue_is_consumed_by_a_pool_that_is_shipped() -> None:
    consumed = set()
    for where, template in charts.templates(charts.rendered("minimum")):
        if where.startswith("Deployment/freehold-worker"):
            command = template["spec"]["containers"][0]["command"]
            consumed |= set(command[command.index("--queues") + 1].split(","))
    assert consumed == {queue.name for queue in QUEUES}


def test_beat_is_one_and_never_two() -> None:
    spec = pick(charts.rendered("high-availability"), "Deployment", "freehold-beat")["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


def test_web_answers_to_its_public_host_and_to_its_service() -> None:
    data = pick(charts.rendered("minimum"), "ConfigMap", "freehold-config")["data"]
    hosts = data["ALLOWED_HOSTS"].split(",")
    assert hosts == ["freehold.example.com", "freehold-web", "freehold-web.freehold.svc"]


@pytest.mark.parametrize("case", ["minimum", "everything"])
def test_engines_of_this_cluster_fetch_from_webs_service(case: str) -> None:
    found = charts.rendered(case)
    data = pick(found, "ConfigMap", f"{prefix(case)}-config")["data"]
    url = urlsplit(data["FREEHOLD_HUB_URL"])
    service = pick(found, "Service", f"{prefix(case)}-web")["spec"]["ports"][0]
    assert (url.scheme, url.hostname) == ("http", f"{prefix(case)}-web.{charts.NAMESPACE}.svc")
    assert url.port == service["port"]
    assert data["FREEHOLD_NAMESPACE"] == charts.NAMESPACE
    # A NetworkPolicy sees the pod's port, whatever the Service's is.
    (only,) = pick(found, "Deployment", f"{prefix(case)}-web")["spec"]["template"]["spec"]["containers"]
    named = {port["name"]: port["containerPort"] for port in only["ports"]}
    assert {port.port for port in cluster_settings.Network().hub_ports} == {named[service["targetPort"]]}


def test_where_engines_are_elsewhere_web_has_no_way_in_without_tls() -> None:
    assert "FREEHOLD_HUB_URL" not in pick(charts.rendered("remote-clusters"), "ConfigMap", "freehold-config")["data"]


def test_a_database_url_of_the_evaluation_is_one_that_django_takes() -> None:
    secret = pick(charts.rendered("evaluation"), "Secret", "freehold-postgresql")["stringData"]
    for key, role in (("DATABASE_URL", "freehold_app"), ("DATABASE_MIGRATE_URL", "freehold_owner")):
        taken = base.database(secret[key], pooled=False)
        assert (taken["USER"], taken["HOST"], taken["NAME"]) == (role, "freehold-postgresql", "freehold")


# Rights


def rules(kind: str, name: str, case: str = "minimum") -> dict[tuple[str, str], set[str]]:
    """(group, resource) → verbs."""
    found: dict[tuple[str, str], set[str]] = {}
    for rule in pick(charts.rendered(case), kind, name)["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


def place(resource: resources.Resource) -> tuple[str, str]:
    return resource.api_version.rpartition("/")[0], resource.plural


def test_workers_may_do_what_they_are_looked_at_for_when_a_cluster_is_registered() -> None:
    granted = rules("ClusterRole", "freehold-freehold-worker")
    for resource, verbs in discovery._NEEDED:
        assert set(verbs) <= granted[place(resource)], resource.plural
    for resource in (*resources.OF_TENANTS, *resources.OF_ENDPOINTS):
        assert {"list", "create", "patch", "delete"} <= granted[place(resource)], resource.plural
    assert granted["", "pods/log"] == {"get"}


@pytest.mark.parametrize("name", ["worker", "watcher"])
def test_no_right_is_a_wildcard_or_an_escalation(name: str) -> None:
    for (group, resource), verbs in rules("ClusterRole", f"freehold-freehold-{name}").items():
        assert "*" not in {group, resource, *verbs}
        assert not verbs & {"escalate", "bind", "impersonate", "deletecollection", "update"}
        assert group != "rbac.authorization.k8s.io"
        assert resource not in {"pods/exec", "pods/attach", "pods/portforward", "serviceaccounts/token", "nodes/proxy"}


def test_the_watcher_changes_nothing() -> None:
    for verbs in rules("ClusterRole", "freehold-freehold-watcher").values():
        assert verbs <= {"get", "list", "watch"}


def test_the_workers_writes_are_held_to_tenants_namespaces() -> None:
    found = charts.rendered("minimum")
    policy = pick(found, "ValidatingAdmissionPolicy", "freehold-freehold-worker")["spec"]
    account = f"system:serviceaccount:{charts.NAMESPACE}:freehold-worker"
    assert account in policy["matchConditions"][0]["expression"]
    assert ".startsWith('fh-')" in policy["validations"][0]["expression"]
    assert policy["failurePolicy"] == "Fail"
    held = set(policy["matchConstraints"]["resourceRules"][0]["apiGroups"])
    writes = {
        group
        for (group, _), verbs in rules("ClusterRole", "freehold-freehold-worker").items()
        if verbs & {"create", "patch", "delete"}
    }
    assert writes - held == {"authorization.k8s.io"}  # a question, though it is asked by creating
    binding = pick(found, "ValidatingAdmissionPolicyBinding", "freehold-freehold-worker")
    assert binding["spec"]["validationActions"] == ["Deny"]


def test_where_engines_are_elsewhere_nobody_has_rights_or_tokens_here() -> None:
    found = charts.rendered("remote-clusters")
    assert not [item for item in found if item["kind"].startswith("Cluster")]
    for where, template in charts.templates(found):
        assert template["spec"]["automountServiceAccountToken"] is (component(template) == "replay"), where


# Places


def test_replicas_keep_apart_and_what_is_alone_does_not_mind() -> None:
    for where, template in charts.templates(charts.rendered("high-availability")):
        spec = template["spec"]
        if component(template) in {"web", "gateway", "worker", "watcher"}:
            kept = spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            labels = template["metadata"]["labels"]
            for selector in [
                kept[0]["labelSelector"],
                *(c["labelSelector"] for c in spec["topologySpreadConstraints"]),
            ]:
                assert selector["matchLabels"].items() <= labels.items(), where
        assert spec["priorityClassName"] == "freehold"
        assert spec["tolerations"][0]["key"] == "node-role.example.com/platform"


def test_a_components_own_values_win() -> None:
    changes: dict[str, Any] = {
        "pods": {"nodeSelector": {"a": "1", "b": "1"}, "tolerations": [{"key": "all"}], "priorityClassName": "low"},
        "web": {"nodeSelector": {"b": "2"}, "tolerations": [{"key": "web"}], "priorityClassName": "high"},
    }
    found = charts.objects(charts.values(**changes))
    web = pick(found, "Deployment", "freehold-web")["spec"]["template"]["spec"]
    beat = pick(found, "Deployment", "freehold-beat")["spec"]["template"]["spec"]
    assert (web["nodeSelector"], beat["nodeSelector"]) == ({"a": "1", "b": "2"}, {"a": "1", "b": "1"})
    assert (web["tolerations"], beat["tolerations"]) == ([{"key": "web"}], [{"key": "all"}])
    assert (web["priorityClassName"], beat["priorityClassName"]) == ("high", "low")


def test_weights_are_mounted_where_they_are_moved_and_nowhere_else() -> None:
    for where, template in charts.templates(charts.rendered("evaluation")):
        mounted = any(volume["name"] == "objects" for volume in template["spec"]["volumes"])
        assert mounted is (component(template) in {"web", "worker"}), where
