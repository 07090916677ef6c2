"""System scope sees every tenant. Who may open it is listed here, with why; anybody else fails this test."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("platform/freehold", "workers")

# Module → why it may. DESIGN.md, invariant 1: only workers, key and session lookup, operator views, migrations.
ALLOWED = {
    "freehold.db.rls": "defines it",
    "freehold.config.middleware": "operator views: the admin",
    "freehold.tenancy.selectors": "key and session lookup",
    "freehold.tenancy.services": "operator: users and tenants come from outside of any tenant",
    "freehold.tenancy.publication": "workers: resync",
    "freehold.registry.imports": "workers: imports of every tenant wait in one line",
    "freehold.registry.verification": "workers: content of every tenant is hashed",
    "freehold.fleet.services": "operator: the fleet's audit trail is the platform's",
    "freehold.registry.garbage": "workers: what tenants' models use no more; operator: the store is checked",
    "freehold.serving.claims": "workers: claims and status",
    "freehold.serving.events": "workers: old events are dropped",
    "freehold.serving.selectors": "workers: what is due",
    "freehold.serving.publication": "workers: resync",
    "freehold.serving.catalog.services": "operator: the catalog's audit trail is the platform's",
    "freehold.metering.drain": "workers: one stream carries every tenant's usage",
    "freehold.billing.services": "operator: price books, gateways; workers: the ledger",
    "freehold.billing.publication": "workers: resync, and the drain",
    "freehold.operations.figures": "operator: numbers over every tenant, naming none",
    "freehold.api.idempotency": "workers: outdated answers are dropped",
    "freehold.onebox.seed": "operator: seeding",
}

NAME = "system_scope"


@cache
def modules() -> dict[str, ast.Module]:
    """Dotted name → syntax tree of every module of ours."""
    found = {}
    for source in SOURCES:
        base = ROOT / source
        for path in sorted(base.rglob("*.py")):
            dotted = ".".join([base.name, *path.relative_to(base).with_suffix("").parts]).removesuffix(".__init__")
            found[dotted] = ast.parse(path.read_text())
    return found


def touches(tree: ast.Module) -> bool:
    """Whether it names system_scope in any way: imported, renamed, as an attribute, as a word for getattr."""
    return any(
        (isinstance(node, ast.Name) and node.id == NAME)
        or (isinstance(node, ast.Attribute) and node.attr == NAME)
        or (isinstance(node, ast.alias) and node.name == NAME)
        or (isinstance(node, ast.FunctionDef) and node.name == NAME)
        or (isinstance(node, ast.Constant) and node.value == NAME)
        for node in ast.walk(tree)
    )


def sets_scope_by_hand(tree: ast.Module) -> bool:
    """Whether it names the setting itself, docstrings apart."""
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return any(
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and "freehold.scope" in node.value
        and id(node) not in documentation
        for node in ast.walk(tree)
    )


def test_system_scope_is_opened_by_the_listed_modules_only() -> None:
    assert {name for name, tree in modules().items() if touches(tree)} == set(ALLOWED)


def test_the_setting_behind_it_is_named_by_rls_and_migrations_only() -> None:
    named = {name for name, tree in modules().items() if sets_scope_by_hand(tree)}
    assert {name for name in named if ".migrations." not in name} == {"freehold.db.rls"}


def test_every_call_gives_a_reason() -> None:
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == NAME:
                assert len(node.args) == 1, f"{name}, line {node.lineno}"


def test_nothing_that_answers_customers_opens_it() -> None:
    """The API's one exception is a worker's task; views have none."""
    doors = ("freehold.api.v1", "freehold.api.views", "freehold.hub", "freehold.console", "freehold.gateway")
    assert [name for name, tree in modules().items() if name.startswith(doors) and touches(tree)] == []
