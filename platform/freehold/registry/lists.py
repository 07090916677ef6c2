"""Lists of a tenant's models with what is at the head of `main`, a page at a time, in a constant number of queries.

Called by the hub. A page is found by where the last one ended, so it costs the same however far down it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from django.contrib.postgres.fields import ArrayField
from django.db.models import Func, JSONField, TextField, Value
from django.db.models.functions import Concat
from django.db.models.lookups import IContains

from freehold.db.rls import tenant_scope
from freehold.registry import names
from freehold.registry.choices import RefKind
from freehold.registry.models import ModelFile, ModelRepo, Ref

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Sequence
    from datetime import datetime


class _Entries(Func):
    """Some entries of a JSON object. Taken one by one (`->`), each would unpack the whole object again."""

    template = "(SELECT coalesce(jsonb_object_agg(entry.key, entry.value), '{}') FROM jsonb_each(%(expressions)s))"
    arg_joiner = ") entry WHERE entry.key = ANY("
    output_field = JSONField()


class Order(StrEnum):
    """What a list begins with."""

    CREATED = "repo_id"  # the newest model
    CHANGED = "revision_id"  # the model with the newest commit on main


@dataclass(frozen=True, kw_only=True)
class Row:
    """A model and the head of its `main`.

    Attributes:
        position: where the list goes on after it (`after`).
        facts: of its inspection, as far as they were asked for; null where unknown.
    """

    position: uuid.UUID
    repo_id: uuid.UUID
    revision_id: uuid.UUID
    name: str
    description: str
    created_at: datetime
    commit_id: str
    committed_at: datetime
    facts: dict[str, Any]

    @property
    def public_id(self) -> str:
        """Of the model."""
        return ModelRepo(pk=self.repo_id).public_id


def model_rows(
    *,
    tenant_id: uuid.UUID,
    most: int,
    order: Order = Order.CREATED,
    after: uuid.UUID | None = None,
    containing: Sequence[str] = (),
    namespace: str = "",
    facts: Sequence[str] = (),
) -> list[Row]:
    """At most `most` models, of those whose `namespace/name` contains all of `containing`, whatever the case."""
    refs = Ref.objects.filter(tenant_id=tenant_id, kind=RefKind.BRANCH.value, name=names.DEFAULT_BRANCH)
    for text in containing:
        refs = refs.filter(IContains(Concat(Value(f"{namespace}/"), "repo__name"), text))
    if after is not None:
        refs = refs.filter(**{f"{order.value}__lt": after})
    rows = refs.order_by(f"-{order.value}").values_list(
        order.value,
        "repo_id",
        "revision_id",
        "repo__name",
        "repo__description",
        "repo__created_at",
        "revision__commit_id",
        "revision__created_at",
        _Entries("revision__inspection", Value(list(facts), output_field=ArrayField(TextField()))),
    )
    with tenant_scope(tenant_id):
        return [
            Row(
                position=position,
                repo_id=repo_id,
                revision_id=revision_id,
                name=name,
                description=description,
                created_at=created_at,
                commit_id=commit_id,
                committed_at=committed_at,
                facts=found,
            )
            for (
                position,
                repo_id,
                revision_id,
                name,
                description,
                created_at,
                commit_id,
                committed_at,
                found,
            ) in rows[:most]
        ]


def paths_of(*, tenant_id: uuid.UUID, revision_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, list[str]]:
    """The paths of the files of many revisions, sorted."""
    paths: dict[uuid.UUID, list[str]] = {}
    with tenant_scope(tenant_id):
        files = ModelFile.objects.filter(revision_id__in=list(revision_ids)).order_by("revision_id", "path")
        for revision_id, path in files.values_list("revision_id", "path"):
            paths.setdefault(revision_id, []).append(path)
    return paths


def bytes_of(*, tenant_id: uuid.UUID, repo_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, int]:
    """What the revisions of each model hold together, content that they share counted once a model."""
    totals: dict[uuid.UUID, int] = {}
    with tenant_scope(tenant_id):
        contents = ModelFile.objects.filter(revision__repo_id__in=list(repo_ids)).order_by()
        for repo_id, _, size in contents.values_list("revision__repo_id", "sha256", "size").distinct():
            totals[repo_id] = totals.get(repo_id, 0) + size
    return totals
