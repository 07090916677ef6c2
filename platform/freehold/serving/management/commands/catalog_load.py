"""`manage.py catalog_load`: makes the catalog what a YAML file says. Run by the operator, and by nothing else.

Loading the same file twice changes nothing. `--check` reads and validates only, without a database.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from freehold.serving.catalog.document import SHIPPED, Catalog, CatalogInvalid, load
from freehold.serving.catalog.services import catalog_load
from freehold.tenancy.actors import system

_GIB = 1024**3


class Command(BaseCommand):
    help = "Make the catalog of open-weight models what a YAML file says; models that are gone are offered no longer."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """--file and --check."""
        parser.add_argument("--file", type=Path, default=SHIPPED, help="the catalog file; the shipped one unless given")
        parser.add_argument("--check", action="store_true", help="validate and list the file, change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises CommandError with every problem of the file."""
        file: Path = options["file"]
        try:
            catalog = load(file)
        except CatalogInvalid as error:
            raise CommandError(f"{file}\n{error.message}") from error
        if options["check"]:
            self._list(catalog)
            self.stdout.write(
                self.style.SUCCESS(f"{file} is valid: {len(catalog.entries)} models. Nothing was changed.")
            )
            return
        loaded = catalog_load(actor=system("catalog_load"), catalog=catalog)
        for sign, names in (("+", loaded.added), ("~", loaded.changed), ("-", loaded.removed)):
            for name in names:
                self.stdout.write(f"{sign} {name}")
        counts = f"{len(loaded.added)} added, {len(loaded.changed)} changed, {len(loaded.removed)} removed"
        self.stdout.write(self.style.SUCCESS(f"The catalog offers {len(catalog.entries)} models: {counts}."))

    def _list(self, catalog: Catalog) -> None:
        width = max(len(entry.id) for entry in catalog.entries)
        for entry in catalog.entries:
            size = entry.document["weights"].get("bytes")
            shown = "?" if size is None else f"{size / _GIB:.1f} GiB"
            licence = entry.document["licence"]["id"]
            self.stdout.write(f"{entry.id:<{width}}  {entry.kind.value:<10} {shown:>12}  {licence}")
