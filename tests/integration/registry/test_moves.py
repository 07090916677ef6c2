"""Renaming a model, what becomes of its old name, and squashing the history of a branch."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import pytest

from freehold.audit.models import AuditEvent
from freehold.common.errors import Conflict, InvalidInput, NotFound, PermissionDenied
from freehold.db.rls import system_scope, tenant_scope
from freehold.registry import histories, selectors, services
from freehold.registry.choices import RefKind
from freehold.registry.models import ModelRepo, ModelRepoAlias, Revision
from freehold.registry.trees import Add, Delete, Operation
from freehold.tenancy import services as tenancy
from freehold.tenancy.actors import Actor, system
from freehold.tenancy.choices import ActorKind, Role
from tests.factories.models_on_disk import model_files


@dataclass(frozen=True)
class Customer:
    """A tenant, and who acts in it."""

    tenant_id: uuid.UUID
    actor: Actor


def _customer(slug: str, role: Role = Role.ADMIN) -> Customer:
    tenant = tenancy.tenant_create(actor=system("tests"), slug=slug, name=slug)
    actor = Actor(kind=ActorKind.USER, id="usr_1", label="dev@example.com", tenant_id=tenant.pk, role=role)
    return Customer(tenant_id=tenant.pk, actor=actor)


@pytest.fixture
def acme(committed_db: None) -> Customer:
    """A customer."""
    return _customer("acme")


@pytest.fixture
def model(acme: Customer) -> ModelRepo:
    """An empty model."""
    return _create(acme, "tiny")


def _create(customer: Customer, name: str) -> ModelRepo:
    return services.model_create(actor=customer.actor, tenant_id=customer.tenant_id, name=name)


def _rename(customer: Customer, model: ModelRepo, name: str) -> ModelRepo:
    return services.model_rename(actor=customer.actor, tenant_id=customer.tenant_id, model_id=model.pk, name=name)


def _leads_to(customer: Customer, name: str) -> str | None:
    model = selectors.model_find_renamed(tenant_id=customer.tenant_id, name=name)
    return None if model is None else model.name


def _commit(customer: Customer, operations: list[Operation], message: str) -> Revision:
    return services.revision_commit(
        actor=customer.actor, tenant_id=customer.tenant_id, repo="tiny", operations=operations, message=message
    )


def _add(customer: Customer, path: str, content: bytes) -> Operation:
    entry = services.content_add(actor=customer.actor, tenant_id=customer.tenant_id, content=content)
    return Add(path=path, entry=entry)


def test_an_old_name_leads_to_the_model_through_several_renames(acme: Customer, model: ModelRepo) -> None:
    _rename(acme, model, "small")
    renamed = _rename(acme, model, "little")
    assert (renamed.name, renamed.full_name) == ("little", "acme/little")
    assert (_leads_to(acme, "tiny"), _leads_to(acme, "small"), _leads_to(acme, "little")) == ("little", "little", None)
    with pytest.raises(NotFound):
        selectors.model_find(tenant_id=acme.tenant_id, name="tiny")
    with system_scope("tests read the audit"):
        details = [event.detail for event in AuditEvent.objects.filter(action="model.rename").order_by("id")]
    assert details == [{"name": "small", "before": "tiny"}, {"name": "little", "before": "small"}]


def test_a_new_model_takes_an_old_name(acme: Customer, model: ModelRepo) -> None:
    _rename(acme, model, "small")
    fresh = _create(acme, "tiny")
    assert _leads_to(acme, "tiny") is None
    assert selectors.model_find(tenant_id=acme.tenant_id, name="tiny").pk == fresh.pk


def test_a_renamed_model_takes_an_old_name_and_may_go_back(acme: Customer, model: ModelRepo) -> None:
    other = _create(acme, "other")
    _rename(acme, model, "small")
    _rename(acme, other, "tiny")
    assert (_leads_to(acme, "tiny"), _leads_to(acme, "other")) == (None, "tiny")
    _rename(acme, other, "other")
    assert (_leads_to(acme, "tiny"), _leads_to(acme, "other")) == ("other", None)


def test_a_taken_name_a_bad_name_and_a_foreign_model_are_refused(acme: Customer, model: ModelRepo) -> None:
    _create(acme, "other")
    with pytest.raises(Conflict, match="already have a model named 'other'"):
        _rename(acme, model, "other")
    with pytest.raises(InvalidInput, match="1 to 96 letters"):
        _rename(acme, model, "../up")
    with pytest.raises(NotFound):
        _rename(_customer("rival"), model, "mine")
    viewer = Actor(kind=ActorKind.USER, id="usr_2", label="v", tenant_id=acme.tenant_id, role=Role.VIEWER)
    with pytest.raises(PermissionDenied):
        services.model_rename(actor=viewer, tenant_id=acme.tenant_id, model_id=model.pk, name="small")
    assert _rename(acme, model, "tiny").name == "tiny"
    with tenant_scope(acme.tenant_id):
        assert not ModelRepoAlias.objects.exists()


def test_old_names_go_with_the_model_and_stay_within_the_tenant(acme: Customer, model: ModelRepo) -> None:
    rival = _customer("rival")
    _rename(acme, model, "small")
    assert _leads_to(rival, "tiny") is None
    services.model_delete(actor=acme.actor, tenant_id=acme.tenant_id, model_id=model.pk)
    assert _leads_to(acme, "tiny") is None


def test_a_description_is_kept_and_bounded(acme: Customer, model: ModelRepo) -> None:
    described = services.model_describe(
        actor=acme.actor, tenant_id=acme.tenant_id, model_id=model.pk, description="For support chats."
    )
    assert described.description == "For support chats."
    with pytest.raises(InvalidInput, match="at most 10000 characters"):
        services.model_describe(actor=acme.actor, tenant_id=acme.tenant_id, model_id=model.pk, description="x" * 10_001)


def test_each_path_names_the_commit_that_last_changed_it(acme: Customer, model: ModelRepo) -> None:
    first = _commit(acme, [_add(acme, "a.txt", b"1"), _add(acme, "sub/b.txt", b"1"), _add(acme, "c.txt", b"1")], "one")
    second = _commit(acme, [_add(acme, "a.txt", b"2")], "two")
    third = _commit(acme, [_add(acme, "sub/deep/d.txt", b"1"), Delete(path="c.txt")], "three")
    changes = histories.last_changes(revision=third, paths=["a.txt", "sub", "sub/b.txt", "sub/deep", "nothing"])
    assert {path: revision.message for path, revision in changes.items()} == {
        "a.txt": "two",
        "sub": "three",
        "sub/b.txt": "one",
        "sub/deep": "three",
    }
    assert histories.last_changes(revision=second, paths=["a.txt", "sub"])["sub"].pk == first.pk


def test_a_squashed_branch_is_one_commit_with_the_same_files(acme: Customer, model: ModelRepo) -> None:
    for name, content in model_files().items():
        head = _commit(acme, [_add(acme, name, content)], "upload-large-folder")
    squashed = services.history_squash(
        actor=acme.actor, tenant_id=acme.tenant_id, model_id=model.pk, branch="main", message="All in one"
    )
    assert [revision.message for revision in selectors.history(revision=squashed)] == ["All in one"]
    assert (squashed.digest, squashed.status, squashed.inspection) == (head.digest, head.status, head.inspection)
    assert {file.path for file in selectors.files(revision=squashed)} == set(model_files())
    assert selectors.revision_resolve(tenant_id=acme.tenant_id, repo="tiny").pk == squashed.pk
    with tenant_scope(acme.tenant_id):
        assert Revision.objects.count() == 1


def test_a_squash_keeps_what_a_tag_a_branch_or_a_holder_needs(acme: Customer, model: ModelRepo) -> None:
    tagged = _commit(acme, [_add(acme, "a.txt", b"1")], "tagged")
    gone = _commit(acme, [_add(acme, "a.txt", b"2")], "gone")
    held = _commit(acme, [_add(acme, "a.txt", b"3")], "held")
    _commit(acme, [_add(acme, "a.txt", b"4")], "head")
    services.ref_create(
        actor=acme.actor, tenant_id=acme.tenant_id, model_id=model.pk, kind=RefKind.TAG, name="v1", revision=tagged
    )
    services.revision_hold(tenant_id=acme.tenant_id, revision_id=held.pk, holder="ep_1")
    services.history_squash(
        actor=acme.actor, tenant_id=acme.tenant_id, model_id=model.pk, branch="main", message="squashed"
    )
    with tenant_scope(acme.tenant_id):
        left = set(Revision.objects.values_list("message", flat=True))
    assert left == {"initial commit", "tagged", "held", "squashed"}
    with pytest.raises(NotFound):
        selectors.revision_by_key(tenant_id=acme.tenant_id, revision_id=gone.pk)


def test_only_an_admin_squashes_and_only_a_branch(acme: Customer, model: ModelRepo) -> None:
    developer = Actor(kind=ActorKind.USER, id="usr_2", label="d", tenant_id=acme.tenant_id, role=Role.DEVELOPER)
    with pytest.raises(PermissionDenied):
        services.history_squash(
            actor=developer, tenant_id=acme.tenant_id, model_id=model.pk, branch="main", message="x"
        )
    revision = selectors.revision_resolve(tenant_id=acme.tenant_id, repo="tiny")
    services.ref_create(
        actor=acme.actor, tenant_id=acme.tenant_id, model_id=model.pk, kind=RefKind.TAG, name="v1", revision=revision
    )
    for branch, error in (("v1", InvalidInput), ("nothing", NotFound)):
        with pytest.raises(error):
            services.history_squash(
                actor=acme.actor, tenant_id=acme.tenant_id, model_id=model.pk, branch=branch, message="x"
            )


def test_the_beginning_of_a_commit_id_will_do_where_it_is_unambiguous(acme: Customer, model: ModelRepo) -> None:
    revision = _commit(acme, [_add(acme, "a.txt", b"1")], "one")
    assert selectors.revision_of(model=model, revision=revision.commit_id[:7]).pk == revision.pk
    with pytest.raises(NotFound):
        selectors.revision_of(model=model, revision=revision.commit_id[:6])
    with tenant_scope(acme.tenant_id):
        Revision.objects.exclude(pk=revision.pk).update(commit_id=revision.commit_id[:39] + "x")
    with pytest.raises(NotFound):
        selectors.revision_of(model=model, revision=revision.commit_id[:7])
