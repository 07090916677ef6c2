"""`manage.py freehold_migrate`: migrates as the owner, then grants the application's role what it needs.

Run by `make up` and by the Helm chart's migration job; running it twice, or twice at once, is harmless.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from psycopg import sql

from freehold.db.migration_lock import MIGRATION_LOCK

_GRANTS = (
    "GRANT USAGE ON SCHEMA public TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
    "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}",
)


class Command(BaseCommand):
    help = "Migrate as the owner (DATABASE_MIGRATE_URL) and grant the application's role (DATABASE_URL) its rights."

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises CommandError where no owner is configured."""
        if "owner" not in settings.DATABASES:
            raise CommandError(
                "DATABASE_MIGRATE_URL is not set: migrations run as the owner, never as the application's role."
            )
        role = settings.DATABASES["default"]["USER"]
        owner = connections["owner"]
        with owner.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
            try:
                call_command("migrate", database="owner", interactive=False, verbosity=options["verbosity"])
                for grant in _GRANTS:
                    cursor.execute(sql.SQL(grant).format(role=sql.Identifier(role)))
            finally:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [MIGRATION_LOCK])
