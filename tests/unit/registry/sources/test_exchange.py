"""Redirects, errors and bounds of the requests of an import."""

from __future__ import annotations

import gzip
from datetime import timedelta
from email.utils import format_datetime

import httpx
import pytest

from freehold.common import clock
from freehold.registry.sources import exchange as module
from freehold.registry.sources.errors import (
    OutboundRefused,
    SourceBroken,
    SourceChanged,
    SourceGone,
    SourceUnauthorized,
    SourceUnavailable,
)
from freehold.registry.sources.exchange import Exchange
from tests.fakes.origin import Origin, Reply, origin

TOKEN = "Bearer hf_secret"


@pytest.fixture
def exchange(client: httpx.Client) -> Exchange:
    return Exchange(client, secrets=("hf_secret",))


def redirect(location: str, status: int = 302) -> Reply:
    return Reply(status, b"", {"Location": location, "Set-Cookie": "session=1"})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_on_the_same_origin_keeps_the_token(exchange: Exchange, there: Origin, status: int) -> None:
    there.answers("/old", redirect("/new?x=%2F", status))
    there.answers("/new", Reply(200, b"ok"))
    with exchange.get(there.url("/old"), authorization=TOKEN) as answer:
        assert answer.document(most=10) == b"ok"
        assert [hop["Set-Cookie"] for hop in answer.hops] == ["session=1"]
    assert there.seen[1].query == "x=%2F"
    assert there.seen[1].headers["authorization"] == TOKEN
    assert "cookie" not in there.seen[1].headers


def test_the_token_does_not_go_to_another_port_or_host_nor_come_back(
    exchange: Exchange, there: Origin, elsewhere: Origin
) -> None:
    there.answers("/", redirect(elsewhere.url("/there")))
    elsewhere.answers("/there", redirect(there.url("/back")))
    there.answers("/back", Reply(200, b"ok"))
    with exchange.get(there.url("/"), authorization=TOKEN, headers={"Range": "bytes=1-"}) as answer:
        assert answer.status == 200
    with origin("127.0.0.2") as other_port:
        there.answers("/", redirect(other_port.url("/")))
        with exchange.get(there.url("/"), authorization=TOKEN):
            pass
    assert "authorization" not in elsewhere.seen[0].headers
    assert elsewhere.seen[0].headers["range"] == "bytes=1-"
    assert "authorization" not in there.seen[1].headers
    assert "authorization" not in other_port.seen[0].headers


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:1/",
        "http://inside.example/",
        "http://169.254.169.254/latest/meta-data/",
        "//127.0.0.1/",
        "http://2130706433/",
        "http://user:pass@127.0.0.2/",
        "file:///etc/passwd",
        "gopher://127.0.0.2:6379/_FLUSHALL",
    ],
)
def test_a_redirect_inside_is_refused(exchange: Exchange, there: Origin, location: str) -> None:
    there.answers("/", redirect(location))
    with pytest.raises(OutboundRefused):
        exchange.get(there.url("/"))


def test_a_redirect_from_https_to_http_is_refused(there: Origin) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"Location": there.url("/")})

    with (
        httpx.Client(transport=httpx.MockTransport(answer)) as client,
        pytest.raises(OutboundRefused, match="plain http"),
    ):
        Exchange(client).get("https://hub.example/")


def test_redirects_end(exchange: Exchange, there: Origin) -> None:
    there.answers("/", redirect("/"))
    with pytest.raises(SourceBroken, match="more than 5 times"):
        exchange.get(there.url("/"))
    assert len(there.seen) == 6


def test_a_redirect_to_nowhere_is_told(exchange: Exchange, there: Origin) -> None:
    there.answers("/", Reply(302))
    with pytest.raises(SourceBroken, match="leads nowhere"):
        exchange.get(there.url("/"))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, SourceBroken),
        (401, SourceUnauthorized),
        (403, SourceUnauthorized),
        (404, SourceGone),
        (410, SourceGone),
        (408, SourceUnavailable),
        (412, SourceChanged),
        (416, SourceChanged),
        (418, SourceBroken),
        (429, SourceUnavailable),
        (500, SourceUnavailable),
        (503, SourceUnavailable),
    ],
)
def test_each_status_has_its_error(exchange: Exchange, there: Origin, status: int, kind: type[Exception]) -> None:
    there.answers("/", Reply(status, b"<html>a whole page</html>"))
    with exchange.get(there.url("/")) as answer:
        error = answer.trouble().error("the thing")
    assert type(error) is kind
    assert "the thing" in error.message
    assert "html" not in error.message


def test_what_the_upstream_says_is_cut_cleaned_and_without_secrets(exchange: Exchange, there: Origin) -> None:
    said = b'{"error": "No.\\r\\n\\u0000\\u202eYour token hf_secret is bad. ' + b"x" * 10_000 + b'"}'
    there.answers("/", Reply(400, said))
    with exchange.get(there.url("/"), authorization=TOKEN) as answer:
        message = answer.trouble().message
    assert message.startswith("No. Your token ••• is bad. xxx")
    assert len(message) == 300


@pytest.mark.parametrize("body", [b"{" * 50_000, b"{\xff}", b"[1]", b"", b'{"error": {"a": 1}}'])
def test_an_error_without_words_is_still_an_error(exchange: Exchange, there: Origin, body: bytes) -> None:
    there.answers("/", Reply(500, body))
    with exchange.get(there.url("/")) as answer:
        assert answer.trouble().message == ""


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("999999", 3600.0), ("-1", None), ("soon", None), ("", None), ("1" * 50, None)],
)
def test_the_source_may_ask_us_to_wait_but_not_for_days(
    exchange: Exchange, there: Origin, header: str, seconds: float | None
) -> None:
    there.answers("/", Reply(429, b"", {"Retry-After": header}))
    with exchange.get(there.url("/")) as answer:
        error = answer.trouble().error("it")
    assert isinstance(error, SourceUnavailable)
    assert error.retry_after_s == seconds


def test_the_source_may_name_the_time_to_come_back(exchange: Exchange, there: Origin) -> None:
    moment = format_datetime(clock.now() + timedelta(seconds=100), usegmt=True)
    there.answers("/", Reply(503, b"", {"Retry-After": moment}))
    with exchange.get(there.url("/")) as answer:
        assert 90 < (answer.trouble().retry_after_s or 0) <= 100


def test_a_document_has_a_bound(exchange: Exchange, there: Origin) -> None:
    there.answers("/", Reply(200, b"x" * 100_001))
    with exchange.get(there.url("/")) as answer, pytest.raises(SourceBroken, match="more than 100000 bytes"):
        answer.document(most=100_000)


def test_compressed_bytes_are_refused_not_inflated(exchange: Exchange, there: Origin) -> None:
    there.answers("/", Reply(200, gzip.compress(b"x" * 1_000_000), {"Content-Encoding": "gzip"}))
    with exchange.get(there.url("/")) as answer, pytest.raises(SourceBroken, match="gzip"):
        answer.document(most=100_000_000)


def test_a_body_that_breaks_off_is_worth_another_try(exchange: Exchange, there: Origin) -> None:
    there.answers("/", Reply(200, b"x" * 1000, cut=10))
    with exchange.get(there.url("/")) as answer, pytest.raises(SourceUnavailable, match="trying again"):
        answer.document(most=10_000)


def test_a_body_that_trickles_is_given_up(exchange: Exchange, there: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PACE_SECONDS", 0.0)
    monkeypatch.setattr(module, "_PACE_BYTES_PER_S", 10**12)
    there.answers("/", Reply(200, b"x" * 1000))
    with exchange.get(there.url("/")) as answer, pytest.raises(SourceUnavailable, match="bytes a second"):
        answer.document(most=10_000)


def test_a_closed_port_is_worth_another_try(exchange: Exchange) -> None:
    with pytest.raises(SourceUnavailable, match=r"127\.0\.0\.2"):
        exchange.get("http://127.0.0.2:1/")
