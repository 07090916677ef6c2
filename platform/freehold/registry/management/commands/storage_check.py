"""`manage.py storage_check`: does the object store hold what the database says? Run by the operator, after a restore of
either of the two above all. Never changes anything."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from freehold.registry import garbage
from freehold.registry.checking import storage_check
from freehold.tenancy.selectors import tenant_by_slug


class Command(BaseCommand):
    help = "Compare the database with the object store, both ways. Exits with 1 where something does not fit."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """As BaseCommand's."""
        parser.add_argument("tenant", nargs="?", help="its slug; all unless given")
        parser.add_argument("--hash", action="store_true", help="read every content and compare its sha256")

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises CommandError where anything does not fit."""
        tenants = garbage.tenants_all()
        if options["tenant"]:
            found = tenant_by_slug(slug=options["tenant"])
            if found is None:
                raise CommandError(f"There is no tenant {options['tenant']!r}.")
            tenants = [found]
        problems = 0
        for tenant in tenants:
            for problem in storage_check(tenant_id=tenant.pk, hashed=options["hash"]):
                problems += 1
                self.stdout.write(f"{tenant.slug}: {problem}")
        if problems:
            raise CommandError(f"{problems} problems in {len(tenants)} tenants. docs/storage.md says what to do.")
        self.stdout.write(f"{len(tenants)} tenants: everything fits.")
