"""`manage.py revision_export acme/model --to ./folder`: a revision as a plain folder or a tar, every byte verified."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from freehold.common.errors import FreeholdError
from freehold.registry import exports, selectors
from freehold.tenancy.selectors import tenant_by_slug


class Command(BaseCommand):
    help = "Write a revision of a model to a folder, or as a tar to a file or standard output (-)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """As BaseCommand's."""
        parser.add_argument("model", help="tenant/name")
        parser.add_argument("--revision", default="main", help="branch, tag or commit (default: main)")
        target = parser.add_mutually_exclusive_group(required=True)
        target.add_argument("--to", metavar="FOLDER", type=Path, help="a folder that does not exist yet")
        target.add_argument("--tar", metavar="FILE", help="a tar; - for standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises CommandError."""
        slug, _, name = str(options["model"]).rpartition("/")
        tenant = tenant_by_slug(slug=slug)
        if tenant is None:
            raise CommandError(f"There is no tenant {slug!r}. Name the model as tenant/name.")
        try:
            revision = selectors.revision_resolve(tenant_id=tenant.pk, repo=name, revision=options["revision"])
            if options["to"] is not None:
                size = exports.revision_to_folder(revision=revision, folder=options["to"])
            elif options["tar"] == "-":
                size = exports.revision_to_tar(revision=revision, stream=sys.stdout.buffer)
            else:
                with Path(options["tar"]).open("xb") as stream:
                    size = exports.revision_to_tar(revision=revision, stream=stream)
        except (FreeholdError, OSError) as error:
            raise CommandError(str(error)) from None
        self.stderr.write(f"{slug}/{name} at {revision.commit_id}: {size} bytes, sha256 of every file verified.")
