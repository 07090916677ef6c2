"""`manage.py gateway_forget ID`: releases what a gateway holds whose volume is lost, and says what that was.

A gateway that only crashed holds its tenants' money until its journal is settled, by its restart or by a replay: this
is for one of which there is neither.
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

import redis
from django.core.management.base import BaseCommand, CommandError

from freehold.billing.selectors import book_currency
from freehold.billing.services import gateway_forget
from freehold.common.errors import FreeholdError
from freehold.common.money import format_nanos
from freehold.tenancy.actors import system


class Command(BaseCommand):
    help = "Release the money and requests in flight of a gateway that is gone for good, its journal with it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The gateway's id."""
        parser.add_argument("gateway", help="its GATEWAY_ID, such as the name of its pod")

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises CommandError where the gateway is alive or Redis cannot be reached."""
        gateway: str = options["gateway"]
        try:
            released = gateway_forget(actor=system("gateway_forget"), gateway=gateway)
        except (FreeholdError, redis.RedisError) as error:
            raise CommandError(str(error)) from None
        currency = book_currency()
        for tenant, nanos in sorted(released.money.items()):
            self.stdout.write(f"{tenant}: {format_nanos(nanos, currency)}")
        for scope, requests in sorted(released.requests.items()):
            self.stdout.write(f"{scope}: {requests} requests in flight")
        if not released.money and not released.requests:
            self.stdout.write(f"{gateway} held nothing.")
            return
        self.stdout.write(self.style.SUCCESS(f"{gateway} holds nothing any more."))
