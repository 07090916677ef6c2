"""Exceptions → problems, without a request."""

from __future__ import annotations

import pytest
from rest_framework import exceptions

from freehold.api.problem import problem_of
from freehold.common import errors


def subclasses(kind: type[errors.FreeholdError]) -> list[type[errors.FreeholdError]]:
    return [kind, *(deeper for child in kind.__subclasses__() for deeper in subclasses(child))]


@pytest.mark.parametrize("kind", subclasses(errors.FreeholdError), ids=lambda kind: kind.__name__)
def test_every_error_of_the_tree_keeps_its_status_code_and_words(kind: type[errors.FreeholdError]) -> None:
    problem = problem_of(kind("what to do", field="name"))
    assert (problem.status, problem.code, problem.title) == (kind.status, kind.code, kind.title)
    assert (problem.detail, problem.field) == ("what to do", "name")
    assert problem.errors == (("name", "what to do"),)


def test_nested_messages_have_dotted_fields() -> None:
    error = exceptions.ValidationError(
        {
            "name": ["Missing.", "Bad."],
            "arguments": {"seed": ["Odd."]},
            "list": {"1": ["No."]},
            "non_field_errors": ["All."],
        }
    )
    assert problem_of(error).errors == (
        ("name", "Missing."),
        ("name", "Bad."),
        ("arguments.seed", "Odd."),
        ("list.1", "No."),
        ("", "All."),
    )


def test_a_list_of_objects_names_the_place() -> None:
    error = exceptions.ValidationError([{}, {"name": ["Missing."]}])
    assert problem_of(error).errors == (("1.name", "Missing."),)


def test_a_message_about_the_whole_names_no_field() -> None:
    problem = problem_of(exceptions.ValidationError("All wrong."))
    assert (problem.field, problem.detail) == (None, "All wrong.")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (exceptions.NotAuthenticated(), 401, "not_authenticated"),
        (exceptions.AuthenticationFailed(), 401, "not_authenticated"),
        (exceptions.PermissionDenied(), 403, "permission_denied"),
        (exceptions.NotFound(), 404, "not_found"),
        (exceptions.MethodNotAllowed("PUT"), 405, "method_not_allowed"),
        (exceptions.UnsupportedMediaType("text/plain"), 415, "unsupported_media_type"),
        (exceptions.ParseError(), 400, "parse_error"),
    ],
)
def test_the_frameworks_errors_have_codes_of_their_own(error: exceptions.APIException, status: int, code: str) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.code) == (status, code)


def test_being_throttled_says_how_long_to_wait() -> None:
    assert ("Retry-After", "7") in problem_of(exceptions.Throttled(wait=7)).headers


def test_a_missing_key_is_answered_with_a_challenge() -> None:
    assert problem_of(errors.NotAuthenticated("x")).headers == (("WWW-Authenticate", 'Bearer realm="freehold"'),)


def test_what_nobody_foresaw_says_nothing_of_itself() -> None:
    problem = problem_of(ZeroDivisionError("a secret of ours"))
    assert (problem.status, problem.code) == (500, "internal")
    assert "secret" not in problem.detail
