"""Row-level security: the floor under every tenant-owned table (invariant 1).

A policy lets a row through when its tenant is the one set for the transaction, or the transaction is in system scope.
`tenant_scope` and `system_scope` open the transaction and SET LOCAL, so nothing survives it, not even on a pooled
connection. Without a scope no tenant-owned row exists: a forgotten scope shows nothing instead of everything.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction
from django.db.migrations import RunSQL

_SET = "SELECT set_config('freehold.tenant', %s, true), set_config('freehold.scope', %s, true)"
_GET = """
    SELECT coalesce(current_setting('freehold.tenant', true), ''), coalesce(current_setting('freehold.scope', true), '')
"""


@contextmanager
def tenant_scope(tenant_id: uuid.UUID) -> Iterator[None]:
    """A transaction that sees one tenant's rows. Nests; the outer scope is back afterwards."""
    with _scope(str(tenant_id), ""):
        yield


@contextmanager
def system_scope(reason: str) -> Iterator[None]:
    """A transaction that sees every tenant's rows.

    Only in workers, key and session lookup, operator views and migrations; tests/architecture lists the call sites.
    `reason` says why, for whoever reads the call.
    """
    if not reason:
        raise ValueError("system_scope needs a reason")
    with _scope("", "system"):
        yield


@contextmanager
def _scope(tenant: str, scope: str) -> Iterator[None]:
    nested = connection.in_atomic_block
    with transaction.atomic():
        with connection.cursor() as cursor:
            before: tuple[str, str] | None = None
            if nested:
                cursor.execute(_GET)
                before = cursor.fetchone()
            cursor.execute(_SET, [tenant, scope])
        yield
        # Not in a finally: after an error the savepoint is rolled back, and the settings with it.
        if before is not None:
            with connection.cursor() as cursor:
                cursor.execute(_SET, list(before))


def policy_sql(table: str, *, column: str = "tenant_id") -> str:
    """The statements that put a table under row-level security, its owner included."""
    return f"""
        ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
        ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
        CREATE POLICY {table}_tenant ON {table}
            USING ({column} = nullif(current_setting('freehold.tenant', true), '')::uuid
                   OR current_setting('freehold.scope', true) = 'system');
    """


def enable(table: str, *, column: str = "tenant_id") -> RunSQL:
    """Migration operation: row-level security on `table`."""
    undo = f"""
        DROP POLICY {table}_tenant ON {table};
        ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY;
    """
    return RunSQL(policy_sql(table, column=column), undo)
