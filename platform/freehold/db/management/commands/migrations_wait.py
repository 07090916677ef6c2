"""`manage.py migrations_wait`: returns once the schema is what this code expects.

The Helm chart's pods run it in an init container, so that nothing serves on a schema that is half there. A schema that
is ahead of the code will do: after a rollback it has migrations that the older code does not know.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, OperationalError, connection
from django.db.migrations.executor import MigrationExecutor

from freehold.db.migration_lock import MIGRATION_LOCK

_POLL_SECONDS = 1.0
_NAMED = 5  # of the missing migrations


class Command(BaseCommand):
    help = "Wait until every migration of this code is applied and no migration is under way."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """--timeout."""
        parser.add_argument("--timeout", type=float, default=600, help="seconds after which to give up; 0 looks once")

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises CommandError that says what is still missing when the time is over."""
        deadline = time.monotonic() + options["timeout"]
        told = ""
        while missing := _missing():
            if time.monotonic() >= deadline:
                raise CommandError(f"{missing} Look at the migration job's log, or run `manage.py freehold_migrate`.")
            if missing != told:
                self.stdout.write(f"Waiting. {missing}")
                told = missing
            time.sleep(_POLL_SECONDS)
        self.stdout.write("The schema is current.")


def _missing() -> str:
    """What still has to happen; empty where nothing has."""
    try:
        with connection.cursor() as cursor:
            # Shared: pods that wait do not hold each other up, but a migration holds up all of them. It grants the
            # application its rights last, so "applied" alone is too early.
            cursor.execute("SELECT pg_try_advisory_lock_shared(%s)", [MIGRATION_LOCK])
            row = cursor.fetchone()
            if row is None or not row[0]:
                return "A migration is under way."
            try:
                executor = MigrationExecutor(connection)
                plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
            finally:
                cursor.execute("SELECT pg_advisory_unlock_shared(%s)", [MIGRATION_LOCK])
    except OperationalError as error:
        return f"The database does not answer: {_first_line(error)}."
    except DatabaseError as error:  # a fresh database: no rights on the table of migrations yet
        return f"The schema cannot be read yet: {_first_line(error)}."
    finally:
        connection.close()
    if not plan:
        return ""
    names = [f"{migration.app_label}.{migration.name}" for migration, _ in plan]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"Migrations that are not applied: {', '.join(names[:_NAMED])}{more}."


def _first_line(error: DatabaseError) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
