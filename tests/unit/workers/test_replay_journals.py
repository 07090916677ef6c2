"""What is done about each journal's volume, and a Job made from a template."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from freehold.common.env import ConfigurationError
from workers.replay_journals import Settings, Verb, job_of, plan
from workers.runtimes.kubernetes.journals import Gateways, Journal, Replay, job_name

GATEWAYS = Gateways(name="fh-gateway", version="u/7", first=0, replicas=2)
LONG_AGO = "u/5"


def journal(ordinal: int = 2, **facts: object) -> Journal:
    values: dict[str, object] = {"claim": f"journal-fh-gateway-{ordinal}", "uid": f"uid-{ordinal}", "ordinal": ordinal}
    return Journal(**{**values, **facts})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "delete", "verbs"),
    [
        (journal(1), True, []),
        (journal(1, replayed_since=LONG_AGO), True, [Verb.UNMARK]),
        (journal(1, in_use=True), True, []),
        (journal(), False, [Verb.START]),
        (journal(in_use=True), True, []),
        (journal(deleting=True), True, []),
        (journal(in_use=True, replay=Replay.ACTIVE), True, []),
        (journal(replay=Replay.ACTIVE), True, []),
        (journal(replay=Replay.SUCCEEDED), False, [Verb.MARK]),
        (journal(replay=Replay.SUCCEEDED), True, [Verb.MARK, Verb.DELETE]),
        (journal(replay=Replay.SUCCEEDED, in_use=True), True, [Verb.MARK]),
        (journal(replay=Replay.FAILED), True, [Verb.COMPLAIN]),
        (journal(replayed_since=GATEWAYS.version, replay=Replay.SUCCEEDED), False, []),
        (journal(replayed_since=GATEWAYS.version), False, []),
        (journal(replayed_since=GATEWAYS.version), True, [Verb.DELETE]),
        (journal(replayed_since=GATEWAYS.version, in_use=True), True, []),
        (journal(replayed_since=LONG_AGO), True, [Verb.START]),
    ],
)
def test_what_is_done(found: Journal, delete: bool, verbs: list[Verb]) -> None:
    assert [step.verb for step in plan(GATEWAYS, [found], delete=delete)] == verbs


def test_ordinals_may_begin_elsewhere() -> None:
    """StatefulSets number their pods from `spec.ordinals.start` on."""
    gateways = Gateways(name="fh-gateway", version="u/1", first=3, replicas=1)
    steps = plan(gateways, [journal(2), journal(3), journal(4)], delete=False)
    assert [step.journal.ordinal for step in steps] == [2, 4]


def test_a_jobs_name_is_the_same_for_the_same_and_another_after_a_change() -> None:
    claim = "journal-a-very-long-release-name-of-somebody-freehold-gateway-11"
    name = job_name(claim, "u/7")
    assert name == job_name(claim, "u/7")
    assert len(name) <= 63
    assert len({name, job_name(claim, "u/8"), job_name(claim + "2", "u/7")}) == 3


def test_a_template_is_filled_in(tmp_path: Path) -> None:
    template = tmp_path / "replay-job.json"
    template.write_text(json.dumps({"kind": "Job", "spec": {"claim": "__CLAIM__", "id": "fh-gateway-__ORDINAL__"}}))
    assert job_of(template, journal(12))["spec"] == {"claim": "journal-fh-gateway-12", "id": "fh-gateway-12"}


@pytest.mark.parametrize("text", ["kind: Job", "[]", '{"kind": "Pod", "spec": {}}', '{"kind": "Job", "spec": {}}'])
def test_a_template_that_is_no_job_for_a_claim_is_refused_with_its_path(tmp_path: Path, text: str) -> None:
    template = tmp_path / "replay-job.json"
    template.write_text(text)
    with pytest.raises(ConfigurationError, match=r"replay-job\.json"):
        job_of(template, journal())


def test_what_the_chart_must_tell_is_named() -> None:
    with pytest.raises(ConfigurationError, match="FREEHOLD_GATEWAY_STATEFULSET"):
        Settings.from_environment({"POD_NAMESPACE": "freehold"})
