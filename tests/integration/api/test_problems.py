"""Every error is a problem (RFC 9457), whoever raised it."""

from __future__ import annotations

import pytest
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.http import Http404

from freehold.api.parsing import MAX_BODY
from freehold.registry import services
from tests.integration.api.client import ROOT, Answer, Api


def raw(api: Api, body: bytes, content_type: str = "application/json") -> Answer:
    """A POST to /models with a body as it is."""
    response = api.client.post(
        ROOT + "/models", body, content_type=content_type, headers={"Authorization": f"Bearer {api.secret}"}
    )
    return Answer(response.status_code, response.headers, response.json())


@pytest.mark.parametrize("path", ["/nothing", "/endpoints/", "/models/x/y", "/"])
def test_any_other_address_is_a_problem_even_without_a_key(path: str, db: None) -> None:
    assert Api(None).get(path).problem == (404, "not_found", None)
    assert Api(None).post(path, {}).problem == (404, "not_found", None)


def test_a_wrong_method_says_which_there_are(api: Api) -> None:
    answer = api.delete("/tenants/me")
    assert answer.problem == (405, "method_not_allowed", None)
    assert "GET" in answer.headers["Allow"]


@pytest.mark.parametrize("body", [b"{", b" ", b'{"name": NaN}', b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_refused(api: Api, body: bytes) -> None:
    answer = raw(api, body)
    assert answer.problem[0] == 400


def test_no_body_at_all_is_told_to_state_its_length(api: Api) -> None:
    assert raw(api, b"").problem == (411, "length_required", None)


def test_another_media_type_is_refused(api: Api) -> None:
    assert raw(api, b"name=x", "application/x-www-form-urlencoded").problem == (415, "unsupported_media_type", None)


def test_a_body_too_large_is_refused(api: Api) -> None:
    body = b'{"name": "' + b"x" * MAX_BODY + b'"}'
    assert raw(api, body).problem == (413, "body_too_large", None)


def test_an_answer_in_another_format_is_not_to_be_had(api: Api) -> None:
    response = api.client.get(
        ROOT + "/tenants/me", headers={"Authorization": f"Bearer {api.secret}", "Accept": "text/html"}
    )
    assert response.status_code == 406
    assert response.json()["code"] == "not_acceptable"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RuntimeError("a secret of ours"), 500, "internal"),
        (Http404("a secret of ours"), 404, "not_found"),
        (DjangoPermissionDenied("a secret of ours"), 403, "permission_denied"),
    ],
)
def test_an_error_that_was_not_meant_for_callers_keeps_its_words(
    api: Api, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, code: str
) -> None:
    def fails(**arguments: object) -> None:
        raise error

    monkeypatch.setattr(services, "model_create", fails)
    answer = api.post("/models", {"name": "x"})
    assert answer.problem == (status, code, None)
    assert "secret of ours" not in str(answer.body)


def test_the_request_id_is_ours_and_another_each_time(api: Api) -> None:
    ids = {api.call("get", "/tenants/me", {}, **{"X-Request-Id": "theirs"}).headers["X-Request-Id"] for _ in range(2)}
    assert len(ids) == 2
    assert "theirs" not in ids
