"""`manage.py storage_quota acme 500GiB`: what a tenant may keep. Run by the operator."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from freehold.common.errors import FreeholdError
from freehold.registry import accounts
from freehold.tenancy.actors import system
from freehold.tenancy.selectors import tenant_by_slug


class Command(BaseCommand):
    help = "Show a tenant's storage, or set its quota."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """As BaseCommand's."""
        parser.add_argument("tenant", help="its slug")
        parser.add_argument(
            "quota", nargs="?", help="500GiB, 1.5TiB, none (no limit), default (STORAGE_QUOTA_GIB); nothing: only show"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises CommandError."""
        tenant = tenant_by_slug(slug=options["tenant"])
        if tenant is None:
            raise CommandError(f"There is no tenant {options['tenant']!r}.")
        if options["quota"] is not None:
            try:
                quota = accounts.quota_parse(options["quota"])
                accounts.quota_set(actor=system("storage_quota"), tenant_id=tenant.pk, quota_bytes=quota)
            except FreeholdError as error:
                raise CommandError(error.message) from None
        usage = accounts.storage_usage(tenant_id=tenant.pk)
        limit = "no limit" if usage.quota_bytes is None else accounts.in_words(usage.quota_bytes)
        self.stdout.write(
            f"{tenant.slug}: {accounts.in_words(usage.stored_bytes)} stored, "
            f"{accounts.in_words(usage.reserved_bytes)} reserved by uploads under way; quota: {limit}"
        )
        if usage.quota_bytes is not None and usage.used_bytes > usage.quota_bytes:
            self.stdout.write("That is more than the quota: nothing is removed, and nothing new comes in.")
