"""Commits, holds and tokens on the real database: what is registered, by whom, and what two at once may do."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass

import pytest
from django.db import connection

from freehold.audit.models import AuditEvent
from freehold.common import clock
from freehold.common.errors import (
    Conflict,
    InvalidInput,
    NotAuthenticated,
    NotFound,
    PermissionDenied,
    RateLimited,
    Refused,
    Unavailable,
)
from freehold.db.rls import tenant_scope
from freehold.registry import commits, contents, garbage, selectors, services, turns
from freehold.registry.choices import RefKind, RevisionStatus
from freehold.registry.inspection import run
from freehold.registry.models import Blob, ModelFile, ModelRepo, Revision
from freehold.registry.storage import object_store
from freehold.registry.trees import Add, Delete, Entry, Operation
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
    return services.model_create(actor=acme.actor, tenant_id=acme.tenant_id, name="tiny")


def _add(customer: Customer, path: str, content: bytes) -> Add:
    entry = services.content_add(actor=customer.actor, tenant_id=customer.tenant_id, content=content)
    return Add(path=path, entry=entry)


def _commit(customer: Customer, operations: list[Operation], message: str = "Upload") -> Revision:
    return services.revision_commit(
        actor=customer.actor, tenant_id=customer.tenant_id, repo="tiny", operations=operations, message=message
    )


def _upload(customer: Customer) -> Revision:
    return _commit(customer, [_add(customer, path, content) for path, content in model_files().items()])


def test_a_commit_is_verified_named_and_recorded(acme: Customer, model: ModelRepo) -> None:
    revision = _upload(acme)
    assert revision.status == RevisionStatus.VERIFIED
    assert revision.parent is not None
    assert (
        selectors.revision_resolve(tenant_id=acme.tenant_id, repo="acme/tiny", revision=revision.commit_id) == revision
    )
    assert selectors.revision_get(tenant_id=acme.tenant_id, public_id=revision.public_id) == revision
    with tenant_scope(acme.tenant_id):
        actions = list(AuditEvent.objects.filter(tenant_id=acme.tenant_id).order_by("sequence").values_list("action"))
        assert selectors.revision_list(model=model)[0] == revision
        assert Blob.objects.count() == len(model_files())
    assert ("model.create",) in actions
    assert ("revision.commit",) in actions


def test_a_refused_commit_registers_nothing(acme: Customer, model: ModelRepo) -> None:
    operations: list[Operation] = [_add(acme, "x.bin", b"x"), _add(acme, "config.json", b'{"a":1,"a":2}')]
    with pytest.raises(Refused) as refused:
        _commit(acme, operations)
    assert "x.bin: is a pickle by its name" in refused.value.message
    assert "config.json: has the key 'a' twice" in refused.value.message
    assert selectors.files(revision=selectors.revision_of(model=model, revision="main")) == []
    with tenant_scope(acme.tenant_id):
        assert Revision.objects.count() == 1
        assert not ModelFile.objects.exists()
        assert not AuditEvent.objects.filter(action="revision.commit").exists()


def test_what_a_refused_commit_has_uploaded_is_kept_for_the_next_attempt_and_then_removed(
    acme: Customer, model: ModelRepo
) -> None:
    content = b'{"a":1,"a":2}'
    with pytest.raises(Refused):
        _commit(acme, [_add(acme, "config.json", content)])
    sha256 = _add(acme, "notes.txt", content).entry.sha256  # moves no bytes
    garbage.collect(tenant_id=acme.tenant_id)
    assert object_store().size(acme.tenant_id, sha256) == len(content)
    garbage.collect(tenant_id=acme.tenant_id, now=lambda: clock.now() + contents.keep_for())
    assert object_store().size(acme.tenant_id, sha256) is None
    with tenant_scope(acme.tenant_id):
        assert not Blob.objects.exists()


def test_no_transaction_is_open_while_files_are_read(
    acme: Customer, model: ModelRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = run.inspect
    open_then: list[bool] = []

    def watching(*arguments: object) -> object:
        open_then.append(connection.in_atomic_block)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(commits, "inspect", watching)
    _upload(acme)
    assert open_then == [False]


def test_no_connection_is_held_while_files_are_read(
    acme: Customer, model: ModelRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = run.inspect
    held: list[object] = []

    def watching(*arguments: object) -> object:
        held.append(connection.connection)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(commits, "inspect", watching)
    _upload(acme)
    assert held == [None]


def test_a_tenant_has_one_commit_inspected_at_a_time(
    acme: Customer, model: ModelRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "PATIENCE_SECONDS", 0.01)
    operation = _add(acme, "a.txt", b"1")
    with turns.turn(acme.tenant_id), pytest.raises(RateLimited, match="Another commit of your tenant"):
        _commit(acme, [operation])
    with turns.turn(uuid.uuid4()):
        with turns.turn(uuid.uuid4()), pytest.raises(Unavailable, match="Too many uploads"):
            _commit(acme, [operation])
        _commit(acme, [operation])


@pytest.mark.parametrize("fault", [{"message": "a\0b"}, {"description": "\ud800"}])
def test_a_message_that_the_database_cannot_hold_is_refused(
    acme: Customer, model: ModelRepo, fault: dict[str, str]
) -> None:
    fields = {"message": "fine", **fault}
    with pytest.raises(InvalidInput, match="NUL"):
        services.revision_commit(
            actor=acme.actor, tenant_id=acme.tenant_id, repo="tiny", operations=[_add(acme, "a.txt", b"1")], **fields
        )
    with pytest.raises(Refused, match="control character"):
        _commit(acme, [_add(acme, "a\0.txt", b"1")])
    with pytest.raises(NotFound):
        selectors.revision_of(model=model, revision="main\0")


def test_a_commit_that_meets_another_is_done_again_on_top_of_it(
    acme: Customer, model: ModelRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = commits._check_content
    barrier = threading.Barrier(1)

    def overtaken(*arguments: object) -> object:
        if not barrier.broken:
            barrier.abort()
            _commit(acme, [_add(acme, "first.txt", b"1")])
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(commits, "_check_content", overtaken)
    revision = _commit(acme, [_add(acme, "second.txt", b"2")])
    assert [file.path for file in selectors.files(revision=revision)] == ["first.txt", "second.txt"]
    assert len(selectors.history(revision=revision)) == 3


def test_another_tenants_objects_do_not_exist(acme: Customer, model: ModelRepo) -> None:
    revision, rival = _upload(acme), _customer("rival")
    with pytest.raises(NotFound):
        selectors.model_get(tenant_id=rival.tenant_id, public_id=model.public_id)
    with pytest.raises(NotFound):
        selectors.revision_get(tenant_id=rival.tenant_id, public_id=revision.public_id)
    with pytest.raises(NotFound):
        selectors.revision_resolve(tenant_id=rival.tenant_id, repo="acme/tiny")
    with pytest.raises(NotFound):
        services.revision_hold(tenant_id=rival.tenant_id, revision_id=revision.pk, holder="ep_1")
    with pytest.raises(NotFound):
        services.model_delete(actor=acme.actor, tenant_id=rival.tenant_id, model_id=model.pk)
    weights = next(file for file in selectors.files(revision=revision) if file.path == "model.safetensors")
    assert services.content_find(tenant_id=rival.tenant_id, sha256=weights.sha256) is None
    services.model_create(actor=rival.actor, tenant_id=rival.tenant_id, name="tiny")
    stolen = Entry(sha256=weights.sha256, size=weights.size, oid=weights.oid, lfs=True)
    with pytest.raises(Refused, match="was not uploaded"):
        _commit(rival, [Add(path="model.safetensors", entry=stolen)])


def test_a_held_revision_keeps_its_model(acme: Customer, model: ModelRepo) -> None:
    revision = _upload(acme)
    for _ in range(2):
        services.revision_hold(tenant_id=acme.tenant_id, revision_id=revision.pk, holder="ep_1")
    with pytest.raises(Conflict, match="in use by ep_1"):
        services.model_delete(actor=acme.actor, tenant_id=acme.tenant_id, model_id=model.pk)
    for _ in range(2):
        services.revision_release(tenant_id=acme.tenant_id, revision_id=revision.pk, holder="ep_1")
    services.model_delete(actor=acme.actor, tenant_id=acme.tenant_id, model_id=model.pk)
    with pytest.raises(NotFound):
        selectors.model_find(tenant_id=acme.tenant_id, name="tiny")


def test_roles_decide_who_writes_and_who_deletes(acme: Customer, model: ModelRepo) -> None:
    viewer = Actor(kind=ActorKind.USER, id="usr_2", label="v", tenant_id=acme.tenant_id, role=Role.VIEWER)
    developer = Actor(kind=ActorKind.USER, id="usr_3", label="d", tenant_id=acme.tenant_id, role=Role.DEVELOPER)
    with pytest.raises(PermissionDenied):
        services.model_create(actor=viewer, tenant_id=acme.tenant_id, name="other")
    with pytest.raises(PermissionDenied):
        services.model_delete(actor=developer, tenant_id=acme.tenant_id, model_id=model.pk)
    services.model_create(actor=developer, tenant_id=acme.tenant_id, name="other")


def test_names_are_taken_once(acme: Customer, model: ModelRepo) -> None:
    with pytest.raises(Conflict):
        services.model_create(actor=acme.actor, tenant_id=acme.tenant_id, name="tiny")


def test_a_tag_is_not_committed_to_and_branches_win_over_tags(acme: Customer, model: ModelRepo) -> None:
    first = _upload(acme)
    for name in ("main", "v1"):
        services.ref_create(
            actor=acme.actor,
            tenant_id=acme.tenant_id,
            model_id=model.pk,
            kind=RefKind.TAG,
            name=name,
            revision=first,
        )
    second = _commit(acme, [Delete(path="README.md")])
    assert selectors.revision_resolve(tenant_id=acme.tenant_id, repo="tiny", revision="main") == second
    assert selectors.revision_resolve(tenant_id=acme.tenant_id, repo="tiny", revision="v1") == first
    with pytest.raises(InvalidInput, match="branch"):
        services.revision_commit(
            actor=acme.actor, tenant_id=acme.tenant_id, repo="tiny", ref="v1", operations=[], message="x"
        )


def test_a_fetch_token_names_one_revision_and_cannot_be_altered(acme: Customer, model: ModelRepo) -> None:
    revision = _upload(acme)
    token = services.fetch_token_create(revision=revision)
    grant = services.fetch_token_verify(token=token)
    assert (grant.tenant_id, grant.revision_id) == (acme.tenant_id, revision.pk)
    with pytest.raises(NotAuthenticated):
        services.fetch_token_verify(token=token[:-1] + ("a" if token[-1] != "a" else "b"))
