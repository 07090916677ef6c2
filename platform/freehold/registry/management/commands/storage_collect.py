"""`manage.py storage_collect`: removes now what workers remove every few minutes. Run by the operator, at any time."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from freehold.registry import accounts, garbage
from freehold.tenancy.selectors import tenant_by_slug


class Command(BaseCommand):
    help = "Remove content that no model uses any more and nobody may be about to commit, and expired uploads."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """As BaseCommand's."""
        parser.add_argument("tenant", nargs="?", help="its slug; all unless given")
        parser.add_argument("--leftovers", action="store_true", help="also content that no row speaks of (a listing)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises CommandError where the store did not let something go."""
        tenants = garbage.tenants_all()
        if options["tenant"]:
            found = tenant_by_slug(slug=options["tenant"])
            if found is None:
                raise CommandError(f"There is no tenant {options['tenant']!r}.")
            tenants = [found]
        total = garbage.Collected()
        for tenant in tenants:
            collected = garbage.collect(tenant_id=tenant.pk)
            if options["leftovers"]:
                collected += garbage.leftovers_collect(tenant_id=tenant.pk)
            if collected != garbage.Collected():
                self.stdout.write(f"{tenant.slug}: {_in_words(collected)}")
            total += collected
        self.stdout.write(f"Removed {_in_words(total)}.")
        if total.failed:
            raise CommandError(f"The object store did not let {total.failed} go. They are tried again later.")


def _in_words(collected: garbage.Collected) -> str:
    return f"{collected.contents} contents ({accounts.in_words(collected.bytes)}), {collected.uploads} uploads"
