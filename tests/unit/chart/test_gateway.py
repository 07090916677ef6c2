"""The gateway's pods lose no usage: stable names, volumes that stay, a way out that drains, a replay of the rest."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Any

import pytest

from freehold.gateway import settings as gateway_settings
from tests.factories import charts
from tests.factories.charts import Manifest, pick
from workers import replay_journals
from workers.runtimes.kubernetes.journals import Journal


def gateway(case: str = "minimum") -> Manifest:
    return pick(charts.rendered(case), "StatefulSet", "freehold-gateway")


def container(workload: Manifest) -> Manifest:
    return dict(workload["spec"]["template"]["spec"]["containers"][0])


def environment(case: str = "minimum", pod: str = "freehold-gateway-1") -> dict[str, str]:
    """What the process finds, secrets aside."""
    values = dict(pick(charts.rendered(case), "ConfigMap", "freehold-gateway")["data"])
    for variable in container(gateway(case))["env"]:
        if "value" in variable:
            values[variable["name"]] = variable["value"].replace("$(POD_NAME)", pod)
    return values | {"REDIS_URL": "redis://redis:6379/0"}


def replay(case: str = "minimum") -> Manifest:
    return dict(json.loads(pick(charts.rendered(case), "ConfigMap", "freehold-replay")["data"]["replay-job.json"]))


def test_the_gateway_understands_its_environment() -> None:
    settings = gateway_settings.from_environment(environment())
    assert settings.gateway_id == "local.freehold.freehold-gateway-1"
    assert settings.private_host == charts.chart().values["listenAddress"]
    assert str(settings.state).startswith(container(gateway())["volumeMounts"][0]["mountPath"])


def test_gateways_of_two_regions_that_share_a_release_name_have_different_ids() -> None:
    assert environment("data-plane-only")["GATEWAY_ID"] == "eu-north.freehold.freehold-gateway-1"


def test_a_volume_stays_whatever_happens_to_its_pod() -> None:
    spec = gateway()["spec"]
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert [claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]] == ["journal"]


@pytest.mark.parametrize(("drain", "ship", "withdraw"), [(120, 60, 10), (1, 1, 0), (3600, 600, 30)])
def test_a_pod_is_given_longer_than_draining_and_shipping_take(drain: int, ship: int, withdraw: int) -> None:
    given = {"drainSeconds": drain, "shipSeconds": ship, "withdrawSeconds": withdraw}
    found = charts.objects(charts.values(gateway=given))
    spec = pick(found, "StatefulSet", "freehold-gateway")["spec"]["template"]["spec"]
    variables = pick(found, "ConfigMap", "freehold-gateway")["data"]
    assert spec["terminationGracePeriodSeconds"] > gateway_settings.departure_seconds(variables) + 10
    assert spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1] == "freehold.gateway.drain"


def test_a_full_journal_takes_a_pod_out_of_service_and_does_not_kill_it() -> None:
    probes = container(gateway())
    assert probes["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "private"}
    assert probes["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "private"}
    assert probes["startupProbe"]["httpGet"] == {"path": "/healthz", "port": "private"}


def test_the_gateway_waits_for_no_database() -> None:
    spec = gateway()["spec"]["template"]["spec"]
    assert "initContainers" not in spec
    assert "DATABASE_URL" not in str(spec)


def test_the_replay_is_the_gateway_that_is_gone() -> None:
    """The same id, state and volume; else metering would not know the journal."""
    job = json.loads(
        json.dumps(replay()).replace("__CLAIM__", "journal-freehold-gateway-1").replace("__ORDINAL__", "1")
    )
    pod = job["spec"]["template"]["spec"]
    (only,) = pod["containers"]
    assert only["env"][1]["value"] == environment()["GATEWAY_ID"]
    assert only["envFrom"] == container(gateway())["envFrom"]
    assert only["volumeMounts"] == container(gateway())["volumeMounts"]
    assert pod["volumes"][0] == {
        "name": "journal",
        "persistentVolumeClaim": {"claimName": "journal-freehold-gateway-1"},
    }
    assert only["command"] == ["python", "-m", "freehold.gateway.replay"]


def test_the_replay_controller_takes_what_the_chart_gives_it(tmp_path: Any) -> None:
    (cron,) = [item for item in charts.rendered("minimum") if item["kind"] == "CronJob"]
    pod = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (only,) = pod["containers"]
    given = {variable["name"]: variable.get("value", "freehold") for variable in only["env"]}
    settings = replay_journals.Settings.from_environment(given)
    assert settings.statefulset == "freehold-gateway"
    assert str(settings.template).startswith(only["volumeMounts"][1]["mountPath"])
    template = tmp_path / settings.template.name
    template.write_text(pick(charts.rendered("minimum"), "ConfigMap", "freehold-replay")["data"][template.name])
    job = replay_journals.job_of(template, Journal(claim="journal-freehold-gateway-4", uid="u", ordinal=4))
    assert "__" not in json.dumps(job)


def test_journals_are_deleted_only_where_the_operator_says_so() -> None:
    for wanted in (False, True):
        found = charts.objects(charts.values(gateway={"replay": {"deleteVolumes": wanted}}))
        role = pick(found, "Role", "freehold-replay")
        assert any("delete" in rule["verbs"] for rule in role["rules"]) is wanted
        (cron,) = [item for item in found if item["kind"] == "CronJob"]
        assert ("'FREEHOLD_REPLAY_DELETE', 'value': '1'" in str(cron)) is wanted


def test_every_module_that_a_pod_runs_exists() -> None:
    for case in ("everything", "evaluation"):
        for _, template in charts.templates(charts.rendered(case)):
            for one in charts.containers(template):
                command = one.get("command", [])
                if "-m" in command:
                    assert find_spec(command[command.index("-m") + 1]) is not None
