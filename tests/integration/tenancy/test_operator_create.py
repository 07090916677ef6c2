"""`manage.py operator_create`, an installation's first sign-in."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from freehold.tenancy.selectors import user_by_email

EMAIL = "ops@example.com"

pytestmark = pytest.mark.django_db


def create(monkeypatch: pytest.MonkeyPatch, password: str, email: str = EMAIL, **options: bool) -> str:
    """Runs the command with a password on standard input; what it said."""
    said = StringIO()
    monkeypatch.setattr("sys.stdin", StringIO(f"{password}\n"))
    call_command("operator_create", email=email, stdout=said, **options)
    return said.getvalue()


def test_an_operator_may_sign_in_with_the_password_that_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    said = create(monkeypatch, "correct horse battery")
    user = user_by_email(email=EMAIL)
    assert user is not None
    assert user.is_operator
    assert user.check_password("correct horse battery")
    assert "correct horse" not in said


def test_a_generated_password_is_shown_once_and_works(monkeypatch: pytest.MonkeyPatch) -> None:
    said = create(monkeypatch, "", generate=True)
    shown = re.search(r"shown this once: (\S+)", said)
    assert shown is not None
    user = user_by_email(email=EMAIL)
    assert user is not None
    assert user.check_password(shown[1])


def test_a_password_that_others_use_too_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError, match="too common"):
        create(monkeypatch, "password123")
    assert user_by_email(email=EMAIL) is None


def test_an_address_that_is_taken_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    create(monkeypatch, "correct horse battery")
    with pytest.raises(CommandError, match="already a user"):
        create(monkeypatch, "another good passphrase")


def test_an_address_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError, match="valid email"):
        create(monkeypatch, "correct horse battery", email="ops")
