"""`manage.py cluster_list`: every cluster, whether it answers, and its room. Exit status 1 where one is silent."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand

from freehold.fleet.models import Cluster


class Command(BaseCommand):
    help = "List clusters with their conditions and pools."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Writes a paragraph a cluster."""
        unreachable = False
        for cluster in Cluster.objects.select_related("region").prefetch_related("pools__flavor").order_by("name"):
            unreachable |= cluster.enabled and not cluster.is_reachable
            state = cluster.version or "not looked at yet"
            off = "" if cluster.enabled else ", not enabled"
            self.stdout.write(f"{cluster.name}  {cluster.region.name}  {cluster.runtime}  {state}{off}")
            for each in cluster.conditions:
                self.stdout.write(f"  {each['type']}={each['status']} {each['reason']} {each['message']}".rstrip())
            for pool in sorted(cluster.pools.all(), key=lambda pool: pool.flavor.name):
                self.stdout.write(f"  {pool.flavor.name}: room for {pool.capacity}, on {pool.nodes} nodes")
        if unreachable:
            sys.exit(1)
