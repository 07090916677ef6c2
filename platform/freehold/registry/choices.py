"""Closed lists of the registry, free of Django."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class RevisionStatus(StrEnum):
    """What a revision is good for. A commit that inspection refuses becomes no revision at all."""

    VERIFYING = "verifying"  # inspected; some of its content has not been hashed by us yet
    VERIFIED = "verified"  # inspected and whole, every byte hashed: may be deployed
    INCOMPLETE = "incomplete"  # inspected and clean, but something is missing: weights, config.json, a shard
    REFUSED = "refused"  # some of its content turned out to be another than its sha256 says


class RefKind(StrEnum):
    """What a name points with."""

    BRANCH = "branch"
    TAG = "tag"


class Task(StrEnum):
    """What a model does, in the words of vLLM's `--runner`: `generate`, or `embed` (its `pooling`)."""

    GENERATE = "generate"
    EMBED = "embed"


class ImportKind(StrEnum):
    """Where an import comes from."""

    HUB = "hub"  # a Hugging Face Hub, or whatever speaks its protocol
    S3 = "s3"  # a prefix of a bucket


class ImportStatus(StrEnum):
    """How far an import is."""

    QUEUED = "queued"  # waits for a worker: for its first turn, or for its next try
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # `message` says why; it can be retried and goes on where it was
    CANCELLED = "cancelled"


class ImportFileStatus(StrEnum):
    """How far one file of an import is."""

    PENDING = "pending"
    DONE = "done"
    SKIPPED = "skipped"  # `note` says why


IMPORT_TRANSITIONS: Final[Mapping[ImportStatus, frozenset[ImportStatus]]] = {
    ImportStatus.QUEUED: frozenset({ImportStatus.RUNNING, ImportStatus.CANCELLED}),
    ImportStatus.RUNNING: frozenset(
        {ImportStatus.QUEUED, ImportStatus.SUCCEEDED, ImportStatus.FAILED, ImportStatus.CANCELLED}
    ),
    ImportStatus.SUCCEEDED: frozenset(),
    ImportStatus.FAILED: frozenset({ImportStatus.QUEUED}),
    ImportStatus.CANCELLED: frozenset({ImportStatus.QUEUED}),
}
