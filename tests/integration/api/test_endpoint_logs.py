"""Log tails through Redis."""

from __future__ import annotations

import threading

import pytest
import redis
from django.db import connection

from freehold.api.v1 import endpoint_logs
from freehold.serving.models import Endpoint
from freehold.tenancy.models import Tenant
from freehold.wire import logs, names
from tests.factories.tenants import make_endpoint
from tests.integration.api.client import Api


@pytest.fixture
def endpoint(served: Tenant, redis_client: redis.Redis) -> Endpoint:
    return make_endpoint(served)


def test_asking_tells_the_watcher_and_shows_the_newest_lines(
    api: Api, endpoint: Endpoint, redis_client: redis.Redis
) -> None:
    logs.append(redis_client, endpoint.public_id, "rpl_a", [f"line {n}" for n in range(5)])
    answer = api.get(f"/endpoints/{endpoint.public_id}/logs", limit=2)
    assert [line["text"] for line in answer.body["data"]] == ["line 3", "line 4"]
    assert answer.body["data"][0]["replica"] == "rpl_a"
    assert logs.wanted(redis_client) == [endpoint.public_id]


def test_reading_on_shows_what_is_new_and_does_not_wait(
    api: Api, endpoint: Endpoint, redis_client: redis.Redis
) -> None:
    path = f"/endpoints/{endpoint.public_id}/logs"
    logs.append(redis_client, endpoint.public_id, "rpl_a", ["one"])
    after = api.get(path).body["next_after"]
    nothing = api.get(path, after=after).body
    assert nothing == {"data": [], "next_after": after}
    logs.append(redis_client, endpoint.public_id, "rpl_a", ["two"])
    assert [line["text"] for line in api.get(path, after=after).body["data"]] == ["two"]


def test_the_first_call_waits_a_moment_for_the_watcher(api: Api, endpoint: Endpoint, redis_client: redis.Redis) -> None:
    """The watcher here is a thread that answers once it sees that somebody looks."""

    def watch() -> None:
        while not logs.wanted(redis_client):
            pass
        logs.append(redis_client, endpoint.public_id, "rpl_a", ["here"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    lines = api.get(f"/endpoints/{endpoint.public_id}/logs").body["data"]
    watcher.join()
    assert [line["text"] for line in lines] == ["here"]


def test_nobody_answering_is_an_empty_page(api: Api, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_logs, "FIRST_LINES_SECONDS", 0.0)
    assert api.get(f"/endpoints/{endpoint.public_id}/logs").body == {"data": [], "next_after": None}


@pytest.mark.usefixtures("committed_db")
def test_no_transaction_is_open_while_redis_is_asked(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.factories.tenants import make_fleet, make_revision, make_tenant
    from tests.integration.api.client import api_of

    tenant = make_tenant()
    make_fleet()
    make_revision(tenant)
    endpoint = make_endpoint(tenant)
    api = api_of(tenant)
    open_transactions: list[bool] = []

    def read(*arguments: object, **keywords: object) -> list[logs.LogLine]:
        open_transactions.append(connection.in_atomic_block)
        return [logs.LogLine(position="1-1", replica="rpl_a", text="x")]

    monkeypatch.setattr(logs, "read", read)
    assert api.get(f"/endpoints/{endpoint.public_id}/logs").status == 200
    assert open_transactions == [False]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"after": "yesterday"}, "after"),
        ({"after": "99999999999999999999999-0"}, "after"),
    ],
)
def test_bad_input_names_the_field(api: Api, endpoint: Endpoint, query: dict[str, object], field: str) -> None:
    assert api.get(f"/endpoints/{endpoint.public_id}/logs", **query).problem == (400, "invalid_input", field)


def test_the_wish_to_see_logs_runs_out(api: Api, endpoint: Endpoint, redis_client: redis.Redis) -> None:
    logs.append(redis_client, endpoint.public_id, "rpl_a", ["x"])
    api.get(f"/endpoints/{endpoint.public_id}/logs")
    assert 0 < redis_client.ttl(names.log_wanted(endpoint.public_id)) <= logs.WANTED_SECONDS
