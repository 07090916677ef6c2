"""Endpoints on the console: the list, one endpoint, what may be done to it and by whom."""

from __future__ import annotations

import re
from typing import Any

import pytest
import redis

from freehold.common import clock
from freehold.db.rls import tenant_scope
from freehold.serving.models import Endpoint
from freehold.tenancy.models import Tenant
from freehold.wire import connection, logs, names
from tests.factories.tenants import make_endpoint
from tests.integration.console.people import Person, sign_in

ROWS = "/console/endpoints/rows"


def _change(endpoint: Endpoint, **values: Any) -> None:
    """What a worker would have observed."""
    with tenant_scope(endpoint.tenant_id):
        Endpoint.objects.filter(pk=endpoint.pk).update(**values)


def _path(endpoint: Endpoint, part: str = "") -> str:
    return f"/console/endpoints/{endpoint.public_id}{part}"


def _seen(html: str) -> str:
    found = re.search(r"\?seen=([0-9a-z]+)", html)
    assert found
    return found[1]


def test_without_endpoints_the_page_says_how_to_get_one(admin: Person) -> None:
    page = admin.get("/console/endpoints").text
    assert "No endpoint yet" in page
    assert "hf upload acme/my-model ./my-model" in page
    assert "HF_ENDPOINT=http://127.0.0.1:8400 HF_HUB_DISABLE_XET=1" in page
    assert "curl http://127.0.0.1:8400/api/v1/endpoints" in page


def test_a_viewer_without_endpoints_is_not_told_to_make_one(viewer: Person) -> None:
    page = viewer.get("/console/endpoints").text
    assert "No endpoint yet" in page
    assert "hf upload" not in page


def test_the_list_shows_model_phase_and_replicas(chat: Endpoint, admin: Person) -> None:
    page = admin.get("/console/endpoints").text
    assert _path(chat) in page
    assert "acme/tiny" in page
    assert 'data-phase="Pending"' in page
    assert "0 of 1 ready" in page


def test_polling_answers_with_the_table_body_alone(chat: Endpoint, admin: Person) -> None:
    rows = admin.get(ROWS, htmx=True)
    assert rows.status == 200
    assert rows.text.startswith('<tbody id="endpoint-rows" hx-get="/console/endpoints/rows?seen=')
    assert 'hx-trigger="every 2s"' in rows.text
    assert "<nav" not in rows.text


def test_polling_sends_nothing_until_something_changes(chat: Endpoint, admin: Person) -> None:
    seen = _seen(admin.get("/console/endpoints").text)
    assert admin.get(f"{ROWS}?seen={seen}", htmx=True).status == 204
    _change(chat, phase="Ready", ready_replicas=1)
    changed = admin.get(f"{ROWS}?seen={seen}", htmx=True)
    assert changed.status == 200
    assert 'data-phase="Ready"' in changed.text
    assert "1 of 1 ready" in changed.text


def test_the_first_endpoint_appears_by_itself(acme: Tenant, admin: Person) -> None:
    assert admin.get(f"{ROWS}?seen=none", htmx=True).status == 204
    make_endpoint(acme)
    assert admin.get(f"{ROWS}?seen=none", htmx=True).headers["HX-Refresh"] == "true"


def test_another_tenants_endpoints_are_not_in_the_list(rival: Tenant, admin: Person) -> None:
    foreign = make_endpoint(rival, "secret-project")
    assert foreign.public_id not in admin.get("/console/endpoints").text
    assert "secret-project" not in admin.get(ROWS).text


@pytest.mark.parametrize("part", ["", "/status", "/usage", "/logs"])
def test_a_foreign_endpoint_is_not_found_like_a_missing_one(rival: Tenant, admin: Person, part: str) -> None:
    foreign = admin.get(_path(make_endpoint(rival), part))
    missing = admin.get(f"/console/endpoints/ep_{'0' * 26}{part}")
    malformed = admin.get(f"/console/endpoints/nonsense{part}")
    assert foreign.status == missing.status == malformed.status == 404
    assert foreign.text == missing.text
    assert "There is nothing here" in foreign.text


@pytest.mark.parametrize("part", ["/scale", "/delete"])
def test_a_foreign_endpoint_cannot_be_changed(rival: Tenant, admin: Person, part: str) -> None:
    foreign = make_endpoint(rival)
    assert admin.post(_path(foreign, part), replicas="0", name=foreign.name).status == 404
    with tenant_scope(rival.pk):
        assert Endpoint.objects.get(pk=foreign.pk).generation == 1


def test_the_page_shows_what_is_pinned_and_how_to_call_it(chat: Endpoint, admin: Person) -> None:
    page = admin.get(_path(chat)).text
    with tenant_scope(chat.tenant_id):
        spec = chat.spec
        assert spec.revision.commit_id in page
        assert spec.revision.digest in page
    assert "sha256:engine" in page
    assert "curl http://127.0.0.1:8401/v1/chat/completions" in page
    assert "base_url=&quot;http://127.0.0.1:8401/v1&quot;" in page
    assert "acme/chat" in page
    assert "fh_…" in page


def test_conditions_are_told_in_words_with_the_last_log_lines(chat: Endpoint, admin: Person) -> None:
    failing = {
        "type": "Failing",
        "status": "True",
        "reason": "EngineExited",
        "message": "ValueError: <too> long\nLast lines of its log:\nTraceback\nsecond line",
        "last_transition_at": clock.now().isoformat(),
    }
    _change(chat, phase="Failed", conditions=[failing])
    status = admin.get(_path(chat, "/status"), htmx=True).text
    assert 'data-phase="Failed"' in status
    assert "EngineExited" in status
    assert "<p>ValueError: &lt;too&gt; long</p>" in status
    assert ">Traceback\nsecond line</pre>" in status


def test_when_an_endpoint_is_gone_its_page_goes_to_the_list(chat: Endpoint, admin: Person) -> None:
    _change(chat, phase="Deleted", deleted_at=clock.now())
    assert admin.get(_path(chat, "/status"), htmx=True).headers["HX-Redirect"] == "/console/endpoints"
    assert admin.get(_path(chat)).status == 404


def test_looking_at_a_page_asks_for_the_log_and_shows_it(
    chat: Endpoint, admin: Person, redis_client: redis.Redis
) -> None:
    assert "No replica is running" in admin.get(_path(chat)).text
    assert redis_client.exists(names.log_wanted(chat.public_id))
    logs.append(redis_client, chat.public_id, "rpl_1", ["INFO <started>"])
    answer = admin.get(_path(chat, "/logs"), htmx=True).text
    assert "INFO &lt;started&gt;" in answer
    assert admin.get(_path(chat, f"/logs?seen={_seen(answer)}"), htmx=True).status == 204


def test_without_redis_the_page_still_stands(chat: Endpoint, admin: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "client", lambda: redis.Redis(host="127.0.0.1", port=1))
    page = admin.get(_path(chat))
    assert page.status == 200
    assert "The log cannot be read at the moment" in page.text


def test_scaling_is_a_new_generation(chat: Endpoint, admin: Person) -> None:
    page = admin.follow(_path(chat, "/scale"), replicas="3")
    assert page.status == 200
    assert "chat is being scaled to 3 replicas" in page.text
    assert "0 of 3 replicas ready" in page.text
    assert "A change is on its way" in page.text


@pytest.mark.parametrize(
    ("replicas", "said"), [("65", "less than or equal to 64"), ("x", "whole number"), ("60", "No cluster")]
)
def test_what_is_wrong_with_scaling_is_said_next_to_the_form(
    chat: Endpoint, admin: Person, replicas: str, said: str
) -> None:
    page = admin.post(_path(chat, "/scale"), replicas=replicas)
    assert page.status == 400
    form = page.text[page.text.index('id="scale-title"') : page.text.index('id="delete-title"')]
    assert said in form
    assert f'value="{replicas}"' in form


def test_deletion_asks_for_the_name(chat: Endpoint, admin: Person) -> None:
    refused = admin.post(_path(chat, "/delete"), name="chta")
    assert refused.status == 400
    assert "That is not its name" in refused.text
    with tenant_scope(chat.tenant_id):
        assert Endpoint.objects.get(pk=chat.pk).deletion_requested_at is None
    done = admin.follow(_path(chat, "/delete"), name="chat")
    assert "chat is being deleted" in done.text
    assert 'data-phase="Deleting"' in done.text
    page = admin.get(_path(chat)).text
    assert "Delete this endpoint" not in page
    assert admin.post(_path(chat, "/scale"), replicas="2").status == 409


def test_a_viewer_has_no_forms_and_is_refused_when_posting(chat: Endpoint, viewer: Person) -> None:
    page = viewer.get(_path(chat)).text
    assert "/scale" not in page
    assert "/delete" not in page
    for part, fields in (("/scale", {"replicas": "0"}), ("/delete", {"name": "chat"})):
        refused = viewer.post(_path(chat, part), **fields)
        assert refused.status == 403
        assert "Ask an admin of the tenant" in refused.text
    with tenant_scope(chat.tenant_id):
        assert Endpoint.objects.get(pk=chat.pk).generation == 1


def test_a_developer_may_scale(acme: Tenant, chat: Endpoint) -> None:
    developer = sign_in("dev@acme.example", (acme, "developer"))
    assert developer.post(_path(chat, "/scale"), replicas="0").status == 302
