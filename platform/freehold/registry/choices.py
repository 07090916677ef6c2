"""Closed lists of the registry, free of Django."""

from __future__ import annotations

from enum import StrEnum


class RevisionStatus(StrEnum):
    """What a revision is good for. A refused commit becomes no revision at all."""

    VERIFIED = "verified"  # inspected and whole: may be deployed
    INCOMPLETE = "incomplete"  # inspected and clean, but something is missing: weights, config.json, a shard


class RefKind(StrEnum):
    """What a name points with."""

    BRANCH = "branch"
    TAG = "tag"


class Task(StrEnum):
    """What a model does, in the words of vLLM's `--runner`: `generate`, or `embed` (its `pooling`)."""

    GENERATE = "generate"
    EMBED = "embed"
