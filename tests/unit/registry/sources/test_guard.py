"""The guarded client, over real sockets: 127.0.0.2 plays an address that is reached, 127.0.0.1 one that is not."""

from __future__ import annotations

import datetime
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from freehold.registry.sources import sockets
from freehold.registry.sources.addresses import AddressPolicy
from freehold.registry.sources.errors import OutboundRefused
from freehold.registry.sources.guard import guarded_client, parse_url
from tests.fakes.origin import Origin, Reply, origin

REACHED = AddressPolicy.parse(["127.0.0.2/32"])


class Names:
    """A resolver that gives its answers one after the other, the last for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def server() -> Iterator[Origin]:
    with origin("127.0.0.2") as running:
        running.answers("/", Reply(200, b"hello", {"Set-Cookie": "a=b"}))
        yield running


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://2130706433/", "unusual spelling"),
        ("http://0x7f.1/", "unusual spelling"),
        ("http://0177.0.0.1/", "no valid URL"),
        ("http://127.1/", "unusual spelling"),
        ("http://%31%32%37.0.0.1/", "percent"),
        ("http://[fe80::1%eth0]/", "percent"),
        ("http://[::1%25lo]/", "percent"),
        ("http://user:secret@host/", "user name or password"),
        ("http://token@host/", "user name or password"),
        ("http://host\\@127.0.0.1/", "characters"),
        ("http://ho\tst/", "characters"),
        ("http://example.com./", "dot"),
        ("http://localhost./", "dot"),
        ("ftp://host/", "ftp"),
        ("file:///etc/passwd", "file"),
        ("gopher://host/", "gopher"),
        ("host/path", "relative"),
        ("http:///path", "empty"),
        ("http://host:0/", "no port"),
        ("http://host:99999/", "no port"),
        ("http://１２７.0.0.1/", "no valid URL"),
        ("http://[::1/", "no valid URL"),
    ],
)
def test_urls_of_a_form_that_hides_something_are_refused(url: str, why: str) -> None:
    with pytest.raises(OutboundRefused, match=why):
        parse_url(url)


def test_a_host_in_another_script_is_sent_as_punycode() -> None:
    assert parse_url("https://bücher.example/x").raw_host == b"xn--bcher-kva.example"


def test_dots_of_other_scripts_make_an_address_that_is_then_checked() -> None:
    assert parse_url("http://127。0。0。1/").host == "127.0.0.1"
    with guarded_client(REACHED) as client, pytest.raises(OutboundRefused, match="not on the public Internet"):
        client.get("http://127。0。0。1/")


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://10.0.0.1/", "http://localhost/"],
)
def test_the_inside_is_refused(url: str) -> None:
    with guarded_client(REACHED) as client, pytest.raises(OutboundRefused, match="IMPORT_ALLOW"):
        client.get(url)


def test_metadata_is_refused_whatever_is_allowed() -> None:
    everything = AddressPolicy.parse(["0.0.0.0/0", "metadata.internal"])
    with guarded_client(everything, resolver=Names(["169.254.169.254"])) as client:
        for host in ("169.254.169.254", "metadata.internal"):
            with pytest.raises(OutboundRefused, match="Nobody may import"):
                client.get(f"http://{host}/latest/meta-data/")


@pytest.mark.parametrize("url", ["http://host.example/", "http://host.example:443/", "https://host.example:22/"])
def test_public_hosts_are_reached_by_https_on_its_ports_alone(url: str) -> None:
    with (
        guarded_client(REACHED, resolver=Names(["93.184.216.34"])) as client,
        pytest.raises(OutboundRefused, match="by https, on port 443 or 8443"),
    ):
        client.get(url)


def test_allowed_networks_are_reached_by_http_on_any_port(server: Origin) -> None:
    with guarded_client(REACHED) as client:
        assert client.get(server.url("/")).text == "hello"


def test_one_bad_address_among_good_ones_is_enough_to_refuse(server: Origin) -> None:
    names = Names(["127.0.0.2", "10.0.0.1"])
    with guarded_client(REACHED, resolver=names) as client, pytest.raises(OutboundRefused):
        client.get(server.url("/", host="mixed.example"))
    assert server.seen == []


def test_a_refusal_does_not_tell_what_an_internal_name_resolves_to() -> None:
    with guarded_client(REACHED, resolver=Names(["10.11.12.13"])) as client, pytest.raises(OutboundRefused) as refused:
        client.get("https://vault.internal/")
    assert "vault.internal" in refused.value.message
    assert "10.11.12.13" not in refused.value.message


def test_a_name_that_changes_after_the_check_changes_nothing(server: Origin) -> None:
    names = Names(["127.0.0.2"], ["127.0.0.1"])
    with origin("127.0.0.1", port=server.port) as inside, guarded_client(REACHED, resolver=names) as client:
        url = server.url("/", host="rebind.example")
        assert client.get(url).text == "hello"
        assert client.get(url).text == "hello", "the same connection, so the same address"
        assert names.asked == 1
    with guarded_client(REACHED, resolver=names) as client, pytest.raises(OutboundRefused):
        client.get(url)  # a new connection asks anew, and checks anew
    assert inside.seen == []


def test_a_peer_that_is_not_the_checked_address_is_hung_up_on(server: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.create_connection
    monkeypatch.setattr(
        socket, "create_connection", lambda address, *a, **k: connect(("127.0.0.2", address[1]), *a, **k)
    )
    policy = AddressPolicy.parse(["127.0.0.3/32"])
    with guarded_client(policy) as client, pytest.raises(OutboundRefused, match="did not lead"):
        client.get(f"http://127.0.0.3:{server.port}/")
    assert server.seen == []


def test_the_next_address_is_tried_where_one_does_not_answer(server: Origin) -> None:
    policy = AddressPolicy.parse(["127.0.0.0/8"])
    with guarded_client(policy, resolver=Names(["127.0.0.9", "127.0.0.2"])) as client:
        assert client.get(server.url("/", host="two.example")).text == "hello"


def test_a_name_that_is_not_found_is_a_network_error() -> None:
    def nothing(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with guarded_client(REACHED, resolver=nothing) as client, pytest.raises(httpx.ConnectError, match="not found"):
        client.get("https://nowhere.example/")


def test_proxies_and_cookies_are_not_for_us(server: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with guarded_client(REACHED) as client:
        client.get(server.url("/"))
        client.get(server.url("/"))
    assert all("cookie" not in seen.headers for seen in server.seen)
    assert server.seen[0].headers["accept-encoding"] == "identity"


def test_an_endless_head_is_cut_off(server: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers("/flood", Reply(raw=b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000))
    server.answers("/long", Reply(raw=b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1_000_000))
    with guarded_client(REACHED) as client:
        for path in ("/flood", "/long"):
            with pytest.raises(httpx.TransportError):
                client.get(server.url(path))


def test_a_head_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "HEAD_SECONDS", 0.3)
    with socket.create_server(("127.0.0.2", 0)) as listener, guarded_client(REACHED) as client:
        begun = time.monotonic()
        with pytest.raises(httpx.ReadTimeout):
            client.get(f"http://127.0.0.2:{listener.getsockname()[1]}/")
        assert time.monotonic() - begun < 5


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Key and certificate of hub.example, which is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hub.example")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hub.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "hub.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


def test_tls_shows_and_verifies_the_name_though_an_address_was_dialled(certificate: Path) -> None:
    named: list[str | None] = []
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(certificate)
    ours.sni_callback = lambda _socket, name, _context: named.append(name)
    trusting = ssl.create_default_context(cafile=str(certificate))
    with (
        origin("127.0.0.2", tls=ours) as server,
        guarded_client(REACHED, resolver=Names(["127.0.0.2"]), tls=trusting) as client,
    ):
        server.answers("/", Reply(200, b"hello"))
        assert client.get(server.url("/", host="hub.example", scheme="https")).text == "hello"
        assert server.seen[0].headers["host"] == f"hub.example:{server.port}"
        with pytest.raises(httpx.ConnectError, match="certificate"):
            client.get(server.url("/", host="other.example", scheme="https"))
    assert named == ["hub.example", "other.example"]
