"""Loading the catalog: what is added, changed, taken away, and who may."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import call_command
from django.core.management.base import CommandError

from freehold.audit.models import AuditEvent
from freehold.common.errors import PermissionDenied
from freehold.db.rls import system_scope
from freehold.serving.catalog.document import SHIPPED, Catalog, load
from freehold.serving.catalog.selectors import catalog_list
from freehold.serving.catalog.services import Loaded, catalog_load
from freehold.serving.models import CatalogModel
from freehold.tenancy.actors import Actor
from freehold.tenancy.choices import ActorKind, Role
from tests.factories.tenants import SYSTEM, actor_in, make_tenant

NOTHING = Loaded((), (), ())


def catalog_of(*ids: str, note: str = "a note") -> Catalog:
    return load(text_of(*ids, note=note))


def text_of(*ids: str, note: str = "a note") -> str:
    def model(upstream_id: str) -> dict[str, Any]:
        return {
            "id": upstream_id,
            "title": upstream_id,
            "family": "acme",
            "publisher": "Acme",
            "origin": "NO",
            "licence": {"id": "MIT", "name": "MIT", "url": "https://example.org/mit", "commercial_use": "yes"},
            "gated": False,
            "kind": "chat",
            "modalities": ["text"],
            "parameters": {"total": 8_000_000_000},
            "weights": {"dtype": "bfloat16", "format": "safetensors"},
            "context_length": 32768,
            "arguments": {},
            "sources": [{"url": "https://example.org", "for": ["licence"]}],
            "note": note,
        }

    return yaml.safe_dump({"version": 1, "models": [model(upstream_id) for upstream_id in ids]})


def offered() -> list[str]:
    return [model.upstream_id for model in catalog_list()]


def events() -> list[AuditEvent]:
    with system_scope("a test reads the platform's trail"):
        return list(AuditEvent.objects.filter(tenant_id=None, action="catalog.load").order_by("sequence"))


@pytest.mark.django_db
def test_the_first_load_offers_everything_in_the_files_order() -> None:
    ids = tuple(f"acme/m{number}" for number in range(30))
    assert catalog_load(actor=SYSTEM, catalog=catalog_of(*ids)) == Loaded(ids, (), ())
    assert tuple(offered()) == ids
    assert list(CatalogModel.objects.order_by("position").values_list("upstream_id", flat=True)) == list(ids)


@pytest.mark.django_db
def test_loading_the_same_file_again_writes_nothing() -> None:
    catalog = catalog_of("acme/a", "acme/b")
    catalog_load(actor=SYSTEM, catalog=catalog)
    before = list(CatalogModel.objects.order_by("id").values())
    assert catalog_load(actor=SYSTEM, catalog=catalog) == NOTHING
    assert list(CatalogModel.objects.order_by("id").values()) == before
    assert len(events()) == 1


@pytest.mark.django_db
def test_what_is_new_changed_and_gone_is_told_apart() -> None:
    catalog_load(actor=SYSTEM, catalog=catalog_of("acme/a", "acme/b"))
    kept = CatalogModel.objects.get(upstream_id="acme/b")
    loaded = catalog_load(actor=SYSTEM, catalog=catalog_of("acme/b", "acme/c", note="another"))
    assert loaded == Loaded(("acme/c",), ("acme/b",), ("acme/a",))
    assert offered() == ["acme/c", "acme/b"]
    now = CatalogModel.objects.get(upstream_id="acme/b")
    assert (now.id, now.document["note"], now.updated_at > kept.updated_at) == (kept.id, "another", True)


@pytest.mark.django_db
def test_a_model_that_is_gone_keeps_its_row_and_comes_back_as_the_same() -> None:
    first = catalog_of("acme/a", "acme/b")
    catalog_load(actor=SYSTEM, catalog=first)
    key = CatalogModel.objects.get(upstream_id="acme/a").id
    assert catalog_load(actor=SYSTEM, catalog=catalog_of("acme/b")).removed == ("acme/a",)
    assert not CatalogModel.objects.get(id=key).enabled
    assert catalog_load(actor=SYSTEM, catalog=catalog_of("acme/b")) == NOTHING
    assert catalog_load(actor=SYSTEM, catalog=first) == Loaded((), ("acme/a",), ())
    assert CatalogModel.objects.get(id=key).enabled


@pytest.mark.django_db
def test_another_order_moves_positions_and_is_no_change_of_a_model() -> None:
    catalog_load(actor=SYSTEM, catalog=catalog_of("acme/a", "acme/b"))
    assert catalog_load(actor=SYSTEM, catalog=catalog_of("acme/b", "acme/a")) == NOTHING
    assert list(CatalogModel.objects.order_by("position").values_list("upstream_id", flat=True)) == [
        "acme/b",
        "acme/a",
    ]


@pytest.mark.django_db
def test_the_audit_trail_says_what_a_load_did_and_with_which_file() -> None:
    catalog = catalog_of("acme/a")
    catalog_load(actor=SYSTEM, catalog=catalog)
    (event,) = events()
    assert event.object_id == f"sha256:{catalog.digest}"
    assert event.detail == {"added": ["acme/a"], "changed": [], "removed": []}


@pytest.mark.django_db
@pytest.mark.parametrize("role", list(Role))
def test_no_role_of_a_tenant_may_load(role: Role) -> None:
    with pytest.raises(PermissionDenied, match="Only the operator may"):
        catalog_load(actor=actor_in(make_tenant(), role), catalog=catalog_of("acme/a"))
    assert offered() == []


@pytest.mark.django_db
def test_the_operator_may_load() -> None:
    operator = Actor(kind=ActorKind.USER, id="usr_op", label="op@example.com", operator=True)
    assert catalog_load(actor=operator, catalog=catalog_of("acme/a")).added == ("acme/a",)


@pytest.mark.django_db
def test_the_command_loads_the_shipped_file_and_tells_what_it_did() -> None:
    count = len(load(SHIPPED).entries)
    out = io.StringIO()
    call_command("catalog_load", stdout=out)
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("+ ")
    assert lines[-1] == f"The catalog offers {count} models: {count} added, 0 changed, 0 removed."
    assert len(offered()) == count
    again = io.StringIO()
    call_command("catalog_load", stdout=again)
    assert again.getvalue().splitlines() == [f"The catalog offers {count} models: 0 added, 0 changed, 0 removed."]


@pytest.mark.django_db
def test_the_command_loads_a_file_of_the_operators_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text_of("acme/a", "acme/b"))
    call_command("catalog_load", file=path, stdout=io.StringIO())
    path.write_text(text_of("acme/b"))
    out = io.StringIO()
    call_command("catalog_load", file=path, stdout=out)
    assert out.getvalue().splitlines()[0] == "- acme/a"


def test_checking_a_file_needs_no_database_and_changes_nothing(tmp_path: Path) -> None:
    """Without the database mark, touching it would fail."""
    path = tmp_path / "mine.yaml"
    path.write_text(text_of("acme/a"))
    out = io.StringIO()
    call_command("catalog_load", file=path, check=True, stdout=out)
    assert "acme/a  chat" in out.getvalue()
    assert out.getvalue().endswith("is valid: 1 models. Nothing was changed.\n")


def test_a_broken_file_is_refused_with_every_problem(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text_of("acme/a").replace("'NO'", "Norway").replace("kind: chat", "kind: poem"))
    with pytest.raises(CommandError, match=r"(?s)mine.yaml\nThe catalog has 2 problems:.*kind.*origin"):
        call_command("catalog_load", file=path, stdout=io.StringIO())
