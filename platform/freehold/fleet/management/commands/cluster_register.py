"""`manage.py cluster_register`: makes a Kubernetes cluster known, or gives a known one new credentials or settings.

    cluster_register --name fra-1 --region eu-central --kubeconfig fra-1.yaml --engine-digest sha256:…
        [--cluster-settings FILE]

Run by the operator where the admin is out of reach, such as from an installation script. A second time with the same
name changes what is given and keeps the rest.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from freehold.common.errors import FreeholdError
from freehold.fleet import services
from freehold.fleet.choices import ClusterAccess, RuntimeKind
from freehold.fleet.models import Cluster, Region
from freehold.tenancy.actors import system

_ACTOR = system("cluster_register")


class Command(BaseCommand):
    help = "Register a Kubernetes cluster, or change the kubeconfig, engine or settings of one that is registered."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """One way to reach it: --kubeconfig or --in-cluster."""
        parser.add_argument("--name", required=True)
        parser.add_argument("--region", help="made where there is none of that name; only for a new cluster")
        parser.add_argument("--engine-digest", help="of the engine's image: sha256:…")
        parser.add_argument("--kubeconfig", metavar="FILE", help="- reads it from standard input")
        parser.add_argument("--in-cluster", action="store_true", help="the cluster that the workers themselves run in")
        parser.add_argument("--cluster-settings", type=Path, metavar="FILE", help="JSON (docs/fleet.md)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises CommandError naming the option."""
        kubeconfig = _text(options["kubeconfig"])
        settings = _settings(options["cluster_settings"])
        known = Cluster.objects.select_related("region").filter(name=options["name"]).first()
        try:
            if known is not None:
                self._update(known, kubeconfig, settings, options)
            else:
                self._register(kubeconfig, settings, options)
        except FreeholdError as error:
            raise CommandError(f"{error.field}: {error.message}" if error.field else error.message) from error

    def _register(self, kubeconfig: str | None, settings: dict[str, Any] | None, options: dict[str, Any]) -> None:
        if not options["region"]:
            raise CommandError("A new cluster needs a --region.")
        region = Region.objects.filter(name=options["region"]).first()
        cluster = services.cluster_register(
            actor=_ACTOR,
            region=region or services.region_create(actor=_ACTOR, name=options["region"]),
            name=options["name"],
            runtime=RuntimeKind.KUBERNETES,
            engine_digest=options["engine_digest"] or "",
            access=ClusterAccess.IN_CLUSTER if options["in_cluster"] else ClusterAccess.KUBECONFIG,
            kubeconfig=kubeconfig or "",
            settings=settings,
        )
        self.stdout.write(self.style.SUCCESS(f"Registered {cluster.name} ({cluster.public_id}). See cluster_list."))

    def _update(
        self, known: Cluster, kubeconfig: str | None, settings: dict[str, Any] | None, options: dict[str, Any]
    ) -> None:
        if options["region"] not in (None, known.region.name):
            raise CommandError(f"{known.name} is in the region {known.region.name}, and a cluster does not move.")
        services.cluster_update(
            actor=_ACTOR,
            cluster=known,
            kubeconfig=kubeconfig,
            settings=settings,
            engine_digest=options["engine_digest"],
        )
        self.stdout.write(self.style.SUCCESS(f"Updated {known.name} ({known.public_id})."))


def _text(file: str | None) -> str | None:
    if file is None:
        return None
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"--kubeconfig: {file} cannot be read: {error}") from error


def _settings(file: Path | None) -> dict[str, Any] | None:
    if file is None:
        return None
    try:
        document = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise CommandError(f"--cluster-settings: {file} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise CommandError(f"--cluster-settings: {file} must hold one JSON object.")
    return document
