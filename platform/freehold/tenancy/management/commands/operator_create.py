"""`manage.py operator_create`: the first person who may sign in to a new installation, or one more.

The password is asked for, read from standard input where that is no terminal, or (`--generate`) made and shown once.
"""

from __future__ import annotations

import getpass
import secrets
import sys
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import validate_email

from freehold.common.errors import FreeholdError
from freehold.tenancy.actors import system
from freehold.tenancy.services import operator_create


class Command(BaseCommand):
    help = "Create a user who runs the installation: signs in to the console and to /admin/."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """--email, --name and --generate."""
        parser.add_argument("--email", required=True, help="address to sign in with")
        parser.add_argument("--name", default="", help="name that others see")
        parser.add_argument("--generate", action="store_true", help="make a password and show it once")

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises CommandError for an address or password that will not do, and for an address that is taken."""
        email: str = options["email"]
        password = secrets.token_urlsafe(18) if options["generate"] else self._password()
        try:
            validate_email(email)
            validate_password(password)
            operator_create(actor=system("operator_create"), email=email, password=password, name=options["name"])
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        except FreeholdError as error:
            raise CommandError(error.message) from None
        self.stdout.write(self.style.SUCCESS(f"{email} may sign in."))
        if options["generate"]:
            self.stdout.write(f"Password, shown this once: {password}")

    def _password(self) -> str:
        if not sys.stdin.isatty():
            return sys.stdin.readline().rstrip("\r\n")
        password = getpass.getpass("Password: ")
        if getpass.getpass("Once more: ") != password:
            raise CommandError("The two are not the same. Nothing was created.")
        return password
