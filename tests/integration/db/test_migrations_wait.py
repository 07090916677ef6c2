"""`manage.py migrations_wait`, which the Helm chart's pods run before they start."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db.migrations.loader import MigrationLoader

from freehold.db.migration_lock import MIGRATION_LOCK
from freehold.onebox.postgres import OWNER, EmbeddedPostgres

DATABASE = "freehold_test"
APP = "audit"

pytestmark = pytest.mark.usefixtures("committed_db")


def wait(timeout: float) -> str:
    """Runs the command; what it said."""
    said = StringIO()
    call_command("migrations_wait", timeout=timeout, stdout=said)
    return said.getvalue()


@contextmanager
def owner(postgres: EmbeddedPostgres) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres.url(OWNER, DATABASE), autocommit=True) as connection:
        yield connection


@contextmanager
def unapplied(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database that has not seen the last migration of an app: its name."""
    last = MigrationLoader(None).graph.leaf_nodes(APP)[0]
    with owner(postgres) as connection:
        connection.execute("DELETE FROM django_migrations WHERE app = %s AND name = %s", last)
        try:
            yield ".".join(last)
        finally:
            connection.execute("DELETE FROM django_migrations WHERE app = %s AND name = %s", last)
            connection.execute("INSERT INTO django_migrations (app, name, applied) VALUES (%s, %s, now())", last)


def test_a_current_schema_lets_the_pod_start() -> None:
    assert "current" in wait(0)


def test_a_migration_that_is_not_applied_is_named(postgres: EmbeddedPostgres) -> None:
    with unapplied(postgres) as name, pytest.raises(CommandError, match=f"not applied: {re.escape(name)}"):
        wait(0)


def test_a_migration_under_way_holds_pods_up_even_where_all_are_applied(postgres: EmbeddedPostgres) -> None:
    with owner(postgres) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
        with pytest.raises(CommandError, match="A migration is under way"):
            wait(0)


def test_pods_that_wait_do_not_hold_each_other_up(postgres: EmbeddedPostgres) -> None:
    with owner(postgres) as connection:
        connection.execute("SELECT pg_advisory_lock_shared(%s)", [MIGRATION_LOCK])
        assert "current" in wait(0)


def test_it_goes_on_once_the_migration_is_done(postgres: EmbeddedPostgres) -> None:
    with owner(postgres) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
        started = time.monotonic()
        release = threading.Timer(0.3, connection.execute, ["SELECT pg_advisory_unlock_all()"])
        release.start()
        assert "Waiting. A migration is under way." in wait(30)
        release.join()
    assert time.monotonic() - started < 20


def test_a_schema_ahead_of_the_code_will_do(postgres: EmbeddedPostgres) -> None:
    with owner(postgres) as connection:
        connection.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('audit', '9999_later', now())")
        try:
            assert "current" in wait(0)
        finally:
            connection.execute("DELETE FROM django_migrations WHERE name = '9999_later'")
