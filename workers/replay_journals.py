"""`python -m workers.replay_journals`: sees to the journals of gateways that were scaled away. Run by a CronJob of the
chart, in the gateways' own namespace; needs neither database nor Redis.

A volume that no gateway has any more may hold usage that nobody was billed for yet. It gets a Job that replays it
(freehold.gateway.replay); when that has succeeded, the volume's claim is marked, and deleted where the operator wants
that. Each run looks at everything anew, so a run that is killed, or two at once, do no harm.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec

from freehold.common import clock, env, logging
from workers.runtimes.base import RuntimeUnavailable
from workers.runtimes.kubernetes.client import Api, ApiError, Json
from workers.runtimes.kubernetes.journals import Gateways, Journal, Journals, Replay

log = logging.get_logger(__name__)

TEMPLATE_PATH = "/etc/freehold/replay-job.json"
_CLAIM, _ORDINAL = "__CLAIM__", "__ORDINAL__"


class Verb(StrEnum):
    """What is done about a journal."""

    START = "start"
    MARK = "mark"
    UNMARK = "unmark"
    DELETE = "delete"
    COMPLAIN = "complain"


@dataclass(frozen=True)
class Step:
    """One thing to do, and why."""

    verb: Verb
    journal: Journal
    reason: str


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the chart tells.

    Attributes:
        namespace: POD_NAMESPACE.
        statefulset: FREEHOLD_GATEWAY_STATEFULSET.
        template: FREEHOLD_REPLAY_TEMPLATE, a file: a Job as JSON, in which __CLAIM__ and __ORDINAL__ stand for the
            journal's.
        delete: FREEHOLD_REPLAY_DELETE. Whether a claim goes once it was replayed.
    """

    namespace: str
    statefulset: str
    template: Path
    delete: bool

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Raises env.ConfigurationError, naming the variable."""
        return cls(
            namespace=env.text("POD_NAMESPACE", environ=environ),
            statefulset=env.text("FREEHOLD_GATEWAY_STATEFULSET", environ=environ),
            template=Path(env.text("FREEHOLD_REPLAY_TEMPLATE", TEMPLATE_PATH, environ=environ)),
            delete=env.boolean("FREEHOLD_REPLAY_DELETE", False, environ=environ),
        )


def plan(gateways: Gateways, journals: Sequence[Journal], *, delete: bool) -> list[Step]:
    """What is to be done now. Pure."""
    steps = []
    for journal in journals:
        if journal.deleting:
            continue
        if gateways.wants(journal.ordinal):
            if journal.replayed_since:
                steps.append(Step(Verb.UNMARK, journal, "a gateway has it again"))
        elif journal.replayed_since == gateways.version:
            if delete and not journal.in_use:
                steps.append(Step(Verb.DELETE, journal, "it was replayed, and no gateway has had it since"))
        elif journal.replay is Replay.SUCCEEDED:
            steps.append(Step(Verb.MARK, journal, "its replay has succeeded"))
            if delete and not journal.in_use:
                steps.append(Step(Verb.DELETE, journal, "it was replayed"))
        elif journal.replay is Replay.FAILED:
            steps.append(Step(Verb.COMPLAIN, journal, "its replay has failed; look at the log of the Job's pods"))
        elif journal.replay is None and not journal.in_use:
            again = "gateways were changed since it was replayed" if journal.replayed_since else "its gateway is gone"
            steps.append(Step(Verb.START, journal, again))
    return steps


def run(journals: Journals, settings: Settings) -> int:
    """One look at everything. Returns 1 where a replay has failed (it is tried again once its Job has gone) or a step
    was refused, which holds up no other; else 0.

    Raises ApiError where nothing can be seen, RuntimeUnavailable, and env.ConfigurationError for a template that is no
    Job.
    """
    gateways, found = journals.survey()
    failed = 0
    for step in plan(gateways, found, delete=settings.delete):
        noted = log.bind(verb=step.verb.value, claim=step.journal.claim, reason=step.reason)
        try:
            match step.verb:
                case Verb.START:
                    journals.start(step.journal, gateways, job_of(settings.template, step.journal))
                case Verb.MARK:
                    journals.mark(step.journal, gateways, at=clock.now())
                case Verb.UNMARK:
                    journals.unmark(step.journal)
                case Verb.DELETE:
                    journals.delete(step.journal)
                case Verb.COMPLAIN:
                    failed = 1
                    noted.error("journal_not_replayed")
                    continue
        except ApiError as error:
            failed = 1
            noted.error("journal_step_refused", error=str(error))
        else:
            noted.info("journal_step")
    return failed


def job_of(template: Path, journal: Journal) -> Json:
    """The Job for one journal. Raises env.ConfigurationError where the file holds none."""
    try:
        text = template.read_text()
        job = msgspec.json.decode(text.replace(_CLAIM, journal.claim).replace(_ORDINAL, str(journal.ordinal)))
    except (OSError, msgspec.DecodeError) as error:
        raise env.ConfigurationError(f"{template} must hold a Job as JSON: {error}") from None
    if not isinstance(job, dict) or job.get("kind") != "Job" or not isinstance(job.get("spec"), dict):
        raise env.ConfigurationError(f"{template} must hold a Job as JSON.")
    if _CLAIM not in text:
        raise env.ConfigurationError(f"{template} nowhere says {_CLAIM}: its Job would replay nothing.")
    return job


def main() -> int:
    """Entry point. Returns the exit code."""
    logging.configure(json=env.boolean("FREEHOLD_LOG_JSON", True))
    try:
        settings = Settings.from_environment()
        api = Api.of_this_cluster()
        try:
            return run(Journals(api, settings.namespace, settings.statefulset), settings)
        finally:
            api.close()
    except (env.ConfigurationError, ApiError, RuntimeUnavailable) as error:
        sys.stderr.write(f"The journals are not looked after: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
