"""The journals' volumes of a release's gateways, and the Jobs that replay those whose gateway is gone: what
workers/replay_journals.py sees and does in its own cluster. API: https://kubernetes.io/docs/reference/kubernetes-api/.

Verbs that the account needs, all in its own namespace: statefulsets get; pods list; persistentvolumeclaims list, patch
(and delete, where replayed volumes are to go); jobs list, create.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from workers.runtimes.kubernetes.client import Api, ApiError, Json
from workers.runtimes.kubernetes.resources import CLAIM, POD, Resource

REPLAYED_AT = "freehold.dev/replayed-at"  # annotation of a claim, ISO 8601
REPLAYED_SINCE = "freehold.dev/replayed-since"  # annotation of a claim: Gateways.version when the replay began
TASK = "freehold.dev/task"  # label of the Jobs
TASK_REPLAY = "replay-journal"
CLAIM_NAME = "freehold.dev/claim"  # annotation of a Job

_STATEFUL_SET = Resource("StatefulSet", "apps/v1", "statefulsets")
_JOB = Resource("Job", "batch/v1", "jobs")
_LONGEST_STEM = 40  # of a Job's name, whose pods' names must stay within 63 characters
_KEPT_SECONDS = 3_600  # a Job that failed is tried again when it is gone


class Replay(StrEnum):
    """How a Job stands."""

    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True)
class Gateways:
    """A StatefulSet of gateways.

    Attributes:
        version: changes with every change of its spec, and so with every scaling: what was replayed under the same
            version has not been in use since.
        first, replicas: the ordinals that have a pod, or should have one.
    """

    name: str
    version: str
    first: int
    replicas: int

    def wants(self, ordinal: int) -> bool:
        """Whether there is to be a gateway of this ordinal."""
        return self.first <= ordinal < self.first + self.replicas


@dataclass(frozen=True)
class Journal:
    """The volume claim of one gateway.

    Attributes:
        replayed_since: the version of the gateways under which it was last replayed; empty where it never was.
        in_use: by a pod that has not ended, or by a Job that has not.
        replay: how the Job stands that replays it under the present version, None where there is none.
    """

    claim: str
    uid: str
    ordinal: int
    replayed_since: str = ""
    in_use: bool = False
    deleting: bool = False
    replay: Replay | None = None


def job_name(claim: str, version: str) -> str:
    """The same for the same journal and version, so that two who make it make one."""
    digest = hashlib.sha256(f"{claim} {version}".encode()).hexdigest()[:10]
    return f"{claim[:_LONGEST_STEM].rstrip('-.')}-replay-{digest}"


class Journals:
    """Those of one StatefulSet."""

    def __init__(self, api: Api, namespace: str, statefulset: str) -> None:
        self._api = api
        self._namespace = namespace
        self._statefulset = statefulset

    def survey(self) -> tuple[Gateways, list[Journal]]:
        """What there is, by ordinal. Four requests, whatever the number of volumes. Raises ApiError (404: there is no
        such StatefulSet), RuntimeUnavailable."""
        found = self._api.get(_STATEFUL_SET.path(self._namespace, self._statefulset))
        spec = found["spec"]
        gateways = Gateways(
            name=self._statefulset,
            version=f"{found['metadata']['uid']}/{found['metadata']['generation']}",
            first=(spec.get("ordinals") or {}).get("start", 0),
            replicas=spec.get("replicas", 1),
        )
        templates = [template["metadata"]["name"] for template in spec.get("volumeClaimTemplates") or ()]
        # The StatefulSet's controller gives every claim the labels that it selects by.
        selector = ",".join(f"{name}={value}" for name, value in sorted(spec["selector"]["matchLabels"].items()))
        jobs = {job["metadata"]["name"]: job for job in self._list(_JOB, f"{TASK}={TASK_REPLAY}")}
        used = {name for pod in self._list(POD, "") if not _has_ended(pod) for name in _claims_of(pod["spec"])}
        used |= {
            name
            for job in jobs.values()
            if _stands(job) is Replay.ACTIVE
            for name in _claims_of(job["spec"]["template"]["spec"])
        }
        journals = []
        for claim in self._list(CLAIM, selector):
            metadata = claim["metadata"]
            ordinal = _ordinal(metadata["name"], templates, self._statefulset)
            if ordinal is None:
                continue
            job = jobs.get(job_name(metadata["name"], gateways.version))
            journals.append(
                Journal(
                    claim=metadata["name"],
                    uid=metadata["uid"],
                    ordinal=ordinal,
                    replayed_since=(metadata.get("annotations") or {}).get(REPLAYED_SINCE, ""),
                    in_use=metadata["name"] in used,
                    deleting="deletionTimestamp" in metadata,
                    replay=_stands(job) if job is not None else None,
                )
            )
        return gateways, sorted(journals, key=lambda journal: journal.ordinal)

    def start(self, journal: Journal, gateways: Gateways, job: Json) -> bool:
        """Creates the Job that replays a journal. Returns whether it is new; False: somebody else has made it. Raises
        ApiError, RuntimeUnavailable."""
        metadata = job.setdefault("metadata", {})
        metadata["name"] = job_name(journal.claim, gateways.version)
        metadata["namespace"] = self._namespace
        metadata.setdefault("labels", {})[TASK] = TASK_REPLAY
        metadata.setdefault("annotations", {})[CLAIM_NAME] = journal.claim
        job["spec"].setdefault("ttlSecondsAfterFinished", _KEPT_SECONDS)
        try:
            self._api.post(_JOB.path(self._namespace), job)
        except ApiError as error:
            if error.reason == "AlreadyExists":
                return False
            raise
        return True

    def mark(self, journal: Journal, gateways: Gateways, *, at: datetime) -> None:
        """Notes on the claim that it was replayed. Raises ApiError, RuntimeUnavailable."""
        self._annotate(journal, {REPLAYED_AT: at.isoformat(timespec="seconds"), REPLAYED_SINCE: gateways.version})

    def unmark(self, journal: Journal) -> None:
        """Takes that note away: a gateway writes there again. Raises ApiError, RuntimeUnavailable."""
        self._annotate(journal, {REPLAYED_AT: None, REPLAYED_SINCE: None})

    def delete(self, journal: Journal) -> None:
        """Deletes this very claim. Raises ApiError, RuntimeUnavailable."""
        self._api.delete(CLAIM, self._namespace, journal.claim, uid=journal.uid)

    def _annotate(self, journal: Journal, annotations: Json) -> None:
        # With the uid, the patch of a claim that was made anew meanwhile is refused.
        patch = {"metadata": {"uid": journal.uid, "annotations": annotations}}
        self._api.merge(CLAIM.path(self._namespace, journal.claim), patch)

    def _list(self, resource: Resource, selector: str) -> Iterator[Json]:
        return self._api.list(resource, selector=selector, namespace=self._namespace)


def _ordinal(claim: str, templates: list[str], statefulset: str) -> int | None:
    """Of a claim that the StatefulSet's controller named (`<template>-<set>-<ordinal>`), None for any other."""
    for template in templates:
        found = re.fullmatch(rf"{re.escape(template)}-{re.escape(statefulset)}-(\d+)", claim)
        if found:
            return int(found[1])
    return None


def _claims_of(pod_spec: Json) -> list[str]:
    volumes = pod_spec.get("volumes") or ()
    return [volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume]


def _has_ended(pod: Json) -> bool:
    return (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}


def _stands(job: Json) -> Replay:
    conditions = (job.get("status") or {}).get("conditions") or ()
    true = {condition["type"] for condition in conditions if condition["status"] == "True"}
    if "Complete" in true:
        return Replay.SUCCEEDED
    return Replay.FAILED if "Failed" in true else Replay.ACTIVE
