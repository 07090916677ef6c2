"""Journals of gateways that were scaled away, looked after through a Kubernetes API. Pods and Jobs are played."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import Configuration

from tests.fakes.kubernetes import Emulator
from workers.replay_journals import Settings, job_of, run
from workers.runtimes.base import RuntimeUnavailable
from workers.runtimes.kubernetes.account import Account
from workers.runtimes.kubernetes.client import Api, ApiError
from workers.runtimes.kubernetes.journals import REPLAYED_AT, REPLAYED_SINCE, Journals
from workers.runtimes.kubernetes.resources import Resource

Json = dict[str, Any]

NAMESPACE, SET = "freehold", "fh-gateway"
LABELS = {"app.kubernetes.io/component": "gateway", "app.kubernetes.io/instance": "fh"}
OTHERS = {**LABELS, "app.kubernetes.io/instance": "another"}
CONTAINER = {"name": "replay", "image": "freehold", "command": ["python", "-m", "freehold.gateway.replay"]}
CLAIMS, JOBS, PODS, SETS = (
    f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims",
    f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs",
    f"/api/v1/namespaces/{NAMESPACE}/pods",
    f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets",
)


JOB, STATEFUL_SET = Resource("Job", "batch/v1", "jobs"), Resource("StatefulSet", "apps/v1", "statefulsets")


def volume(claim: str) -> Json:
    return {"name": "journal", "persistentVolumeClaim": {"claimName": claim}}


def template(tmp_path: Path) -> Path:
    """As the chart renders it."""
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "replaced", "labels": {"app.kubernetes.io/component": "replay-job"}},
        "spec": {
            "backoffLimit": 3,
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [{**CONTAINER, "env": [{"name": "GATEWAY_ID", "value": f"{SET}-__ORDINAL__"}]}],
                    "volumes": [volume("__CLAIM__")],
                }
            },
        },
    }
    file = tmp_path / "replay-job.json"
    file.write_text(json.dumps(job))
    return file


class Release:
    """A release whose gateways had four volumes, with two gateways left."""

    def __init__(self, emulator: Emulator, tmp_path: Path) -> None:
        configuration = Configuration(host=emulator.url)
        configuration.api_key = {"authorization": f"Bearer {emulator.options.token}"}
        self.api = Api(Account(configuration))
        self.settings = Settings(namespace=NAMESPACE, statefulset=SET, template=template(tmp_path), delete=False)
        self.api.post("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        self.api.post(SETS, self._gateways())
        for ordinal in range(4):
            self.claim(f"journal-{SET}-{ordinal}", LABELS)
        self.claim("journal-another-gateway-3", OTHERS)
        self.claim(f"journal-{SET}-old", LABELS)

    def _gateways(self) -> Json:
        claims = {"metadata": {"name": "journal"}, "spec": self._claim_spec()}
        return {
            "metadata": {"name": SET, "labels": LABELS},
            "spec": {
                "replicas": 2,
                "serviceName": SET,
                "selector": {"matchLabels": LABELS},
                "template": {"metadata": {"labels": LABELS}, "spec": {"containers": [CONTAINER]}},
                "volumeClaimTemplates": [claims],
            },
        }

    @staticmethod
    def _claim_spec() -> Json:
        return {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}

    def claim(self, name: str, labels: dict[str, str]) -> None:
        """A volume's claim."""
        self.api.post(CLAIMS, {"metadata": {"name": name, "labels": labels}, "spec": self._claim_spec()})

    def pod(self, name: str, claim: str) -> None:
        """A pod that uses a volume."""
        self.api.post(
            PODS, {"metadata": {"name": name}, "spec": {"containers": [CONTAINER], "volumes": [volume(claim)]}}
        )

    def scale(self, replicas: int) -> None:
        """As the operator or the autoscaler does."""
        self.api.merge(f"{SETS}/{SET}", {"spec": {"replicas": replicas}})

    def run(self, *, delete: bool = False) -> int:
        """The command, once."""
        settings = Settings(namespace=NAMESPACE, statefulset=SET, template=self.settings.template, delete=delete)
        return run(Journals(self.api, NAMESPACE, SET), settings)

    def jobs(self) -> dict[str, Json]:
        """Claim → the Job that replays it."""
        found = self.api.get(JOBS)["items"]
        return {job["metadata"]["annotations"]["freehold.dev/claim"]: job for job in found}

    def end(self, claim: str, condition: str = "Complete") -> None:
        """The Job of a claim ends."""
        name = self.jobs()[claim]["metadata"]["name"]
        self.api.merge(f"{JOBS}/{name}/status", {"status": {"conditions": [{"type": condition, "status": "True"}]}})

    def annotations(self, claim: str) -> dict[str, str]:
        """Of a claim."""
        found: dict[str, str] = self.api.get(f"{CLAIMS}/{claim}")["metadata"].get("annotations") or {}
        return found

    def claims(self) -> set[str]:
        """Names, without those that go as soon as nothing uses them (kubernetes.io/pvc-protection)."""
        found = (claim["metadata"] for claim in self.api.get(CLAIMS)["items"])
        return {metadata["name"] for metadata in found if "deletionTimestamp" not in metadata}

    def delete(self, resource: Resource, name: str) -> None:
        """As somebody else does."""
        found = self.api.get(resource.path(NAMESPACE, name))
        self.api.delete(resource, NAMESPACE, name, uid=found["metadata"]["uid"])


TWO, THREE = f"journal-{SET}-2", f"journal-{SET}-3"


@pytest.fixture
def release(tmp_path: Path) -> Iterator[Release]:
    with Emulator() as emulator:
        made = Release(emulator, tmp_path)
        yield made
        made.api.close()


def test_each_orphaned_volume_of_this_release_gets_one_job_however_often_it_runs(release: Release) -> None:
    for _ in range(3):
        assert release.run() == 0
    jobs = release.jobs()
    assert set(jobs) == {TWO, THREE}
    pod = jobs[THREE]["spec"]["template"]["spec"]
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == THREE
    assert pod["containers"][0]["env"] == [{"name": "GATEWAY_ID", "value": "fh-gateway-3"}]
    assert jobs[THREE]["spec"]["ttlSecondsAfterFinished"] == 3600


def test_two_runs_at_once_make_one_job(release: Release) -> None:
    journals = Journals(release.api, NAMESPACE, SET)
    gateways, found = journals.survey()
    orphan = next(journal for journal in found if journal.claim == TWO)
    made = [journals.start(orphan, gateways, job_of(release.settings.template, orphan)) for _ in range(2)]
    assert made == [True, False]
    assert set(release.jobs()) == {TWO}


def test_a_volume_that_a_pod_still_uses_waits(release: Release) -> None:
    release.pod("fh-gateway-3", THREE)
    release.run()
    assert set(release.jobs()) == {TWO}
    release.api.merge(f"{PODS}/fh-gateway-3/status", {"status": {"phase": "Succeeded"}})
    release.run()
    assert set(release.jobs()) == {TWO, THREE}


def test_a_replay_that_succeeded_is_noted_and_not_repeated(release: Release) -> None:
    release.run()
    release.end(TWO)
    release.run()
    assert set(release.annotations(TWO)) >= {REPLAYED_AT, REPLAYED_SINCE}
    assert REPLAYED_AT not in release.annotations(THREE)
    release.delete(JOB, release.jobs()[TWO]["metadata"]["name"])  # its time to live is over
    release.run()
    assert set(release.jobs()) == {THREE}
    assert TWO in release.claims()


def test_a_volume_that_may_have_been_used_since_is_replayed_again(release: Release) -> None:
    release.run()
    release.end(TWO)
    release.run()
    before = release.jobs()[TWO]["metadata"]["name"]
    release.scale(3)
    release.run()
    assert REPLAYED_AT not in release.annotations(TWO), "a gateway writes there again"
    release.scale(2)
    release.run()
    again = [job["metadata"]["name"] for job in release.api.get(JOBS)["items"]]
    assert len([name for name in again if name.startswith(TWO)]) == 2
    assert before in again


def test_up_and_down_between_two_runs_is_noticed_too(release: Release) -> None:
    release.run()
    release.end(THREE)
    release.run()
    noted = release.annotations(THREE)[REPLAYED_SINCE]
    release.scale(4)
    release.scale(2)
    release.run()
    assert release.annotations(THREE)[REPLAYED_SINCE] == noted
    assert len([job for job in release.api.get(JOBS)["items"] if job["metadata"]["name"].startswith(THREE)]) == 2


def test_a_replayed_claim_is_deleted_where_that_is_wanted(release: Release) -> None:
    release.run(delete=True)
    release.end(TWO)
    assert release.run(delete=True) == 0
    assert TWO not in release.claims()
    assert {THREE, f"journal-{SET}-0", f"journal-{SET}-1", "journal-another-gateway-3"} <= release.claims()


def test_a_replay_that_failed_is_reported_and_keeps_the_claim(release: Release) -> None:
    release.run()
    release.end(TWO, "Failed")
    release.end(THREE)
    assert release.run(delete=True) == 1
    assert TWO in release.claims()
    assert THREE not in release.claims(), "one that fails holds up no other"


def test_without_the_statefulset_nothing_is_touched(release: Release) -> None:
    release.delete(STATEFUL_SET, SET)
    with pytest.raises(ApiError, match="fh-gateway"):
        release.run(delete=True)
    assert len(release.claims()) == 6


def test_an_api_that_is_away_is_said_so(release: Release) -> None:
    away = Journals(Api(Account(Configuration(host="http://127.0.0.1:1"))), NAMESPACE, SET)
    with pytest.raises(RuntimeUnavailable):
        run(away, release.settings)
