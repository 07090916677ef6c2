"""Both sources over real HTTP: from Freehold's own hub, and from a server that speaks S3."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import boto3
import httpx
import pytest
from huggingface_hub import HfApi
from moto.server import ThreadedMotoServer

from freehold.common.errors import InvalidInput
from freehold.registry.sources import s3
from freehold.registry.sources.addresses import AddressPolicy
from freehold.registry.sources.base import Source, SourceFile
from freehold.registry.sources.errors import (
    OutboundRefused,
    SourceBroken,
    SourceChanged,
    SourceGone,
    SourceUnauthorized,
    SourceUnavailable,
)
from freehold.registry.sources.guard import guarded_client
from freehold.registry.sources.hub import HubSource
from freehold.registry.sources.s3 import S3Keys, S3Source
from tests.factories.models_on_disk import model_files
from tests.fakes.origin import Origin, Reply, origin
from tests.integration.hub.live import customer, web_process

LOOPBACK = AddressPolicy.parse(["127.0.0.0/8"])
KEYS = S3Keys(access_key_id="AKIATEST", secret_access_key="s3cr3t/+=", session_token="tok/+=")


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with guarded_client(LOOPBACK) as guarded:
        yield guarded


def read(source: Source, file: SourceFile, *, offset: int = 0) -> bytes:
    with source.open(file, offset=offset) as chunks:
        return b"".join(chunks)


def test_a_model_comes_out_of_another_freehold_as_it_went_in(committed_db: None, client: httpx.Client) -> None:
    with web_process() as web:
        acme = customer("acme")
        api = HfApi(endpoint=web.url, token=acme.secret)
        api.create_repo("acme/tiny")
        files = model_files(fill=3_000_000)
        for path, content in files.items():
            if path != "model.safetensors":
                api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id="acme/tiny")
        content = files["model.safetensors"]
        api.upload_file(path_or_fileobj=content, path_in_repo="model.safetensors", repo_id="acme/tiny")
        source = HubSource(client, url=web.url, repo="acme/tiny", token=acme.secret)
        listing = source.describe()
        assert listing.pin == api.model_info("acme/tiny").sha
        assert {file.path for file in listing.files} >= set(files)
        for file in listing.files:
            came = read(source, file)
            assert file.sha256 == hashlib.sha256(came).hexdigest()
            assert came == files.get(file.path, came)
            assert read(source, file, offset=file.size // 2) == came[file.size // 2 :]
        with pytest.raises(SourceUnauthorized, match="give a token"):
            HubSource(client, url=web.url, repo="acme/tiny").describe()
        with pytest.raises(SourceUnauthorized, match="wrong or expired"):
            HubSource(client, url=web.url, repo="acme/tiny", token="fh_wrong").describe()
        with pytest.raises(SourceGone, match="has no model acme/other"):
            HubSource(client, url=web.url, repo="acme/other", token=acme.secret).describe()
        with pytest.raises(SourceGone, match="'v2'"):
            HubSource(client, url=web.url, repo="acme/tiny", revision="v2", token=acme.secret).describe()


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """The address of a server that speaks S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def fill(endpoint: str, bucket: str, objects: Mapping[str, bytes]) -> None:
    """A new bucket with these objects."""
    own = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    own.create_bucket(Bucket=bucket)
    for key, body in objects.items():
        own.put_object(Bucket=bucket, Key=key, Body=body)
    own.close()


def s3_source(client: httpx.Client, endpoint: str, bucket: str, *, prefix: str = "", keys: S3Keys = KEYS) -> S3Source:
    return S3Source(client, bucket=bucket, prefix=prefix, endpoint_url=endpoint, keys=keys)


def test_a_prefix_is_listed_and_read(client: httpx.Client, moto: str) -> None:
    objects = {f"models/tiny/{path}": content for path, content in model_files(fill=2_000_000).items()}
    objects |= {"models/tiny/": b"", "models/tiny/a b/c+d ~é'(%2F).txt": b"odd", "models/tiny/empty": b""}
    fill(moto, "prefix", objects | {"models/tinier/x.json": b"{}", "models/tiny/old.bin": b"x"})
    source = s3_source(client, moto, "prefix", prefix="/models/tiny/")
    listing = source.describe()
    expected = {key.removeprefix("models/tiny/"): body for key, body in objects.items() if not key.endswith("/")}
    assert [file.path for file in listing.files] == sorted(expected)
    assert [skipped.path for skipped in listing.skipped] == ["old.bin"]
    assert listing.pin == source.describe().pin
    assert len(listing.pin) == 64
    for file in listing.files:
        assert file.sha256 is None
        assert read(source, file) == expected[file.path]
        assert read(source, file, offset=file.size // 2) == expected[file.path][file.size // 2 :]
        assert read(source, file, offset=file.size) == b""


def test_long_listings_come_in_pages(client: httpx.Client, moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "_PAGE_KEYS", 10)
    fill(moto, "pages", {f"p/{number:04}.txt": b"x" for number in range(55)})
    listing = s3_source(client, moto, "pages", prefix="p").describe()
    assert [file.path for file in listing.files] == [f"{number:04}.txt" for number in range(55)]


def test_an_object_that_changes_after_the_listing_is_noticed(client: httpx.Client, moto: str) -> None:
    fill(moto, "changes", {"a.json": b"{}", "b.json": b"{}"})
    source = s3_source(client, moto, "changes")
    before = source.describe()
    fill(moto, "changes", {"a.json": b"[]"})
    for offset in (0, 1):
        with pytest.raises(SourceChanged):
            read(source, before.files[0], offset=offset)
    assert read(source, before.files[1]) == b"{}"
    assert source.describe().pin != before.pin


def test_a_bucket_that_is_not_there_and_one_with_nothing_in_it(client: httpx.Client, moto: str) -> None:
    with pytest.raises(SourceGone, match="no bucket nowhere"):
        s3_source(client, moto, "nowhere").describe()
    fill(moto, "nothing", {})
    with pytest.raises(SourceGone, match="nothing at s3://nothing/deep/"):
        s3_source(client, moto, "nothing", prefix="deep").describe()


def test_an_object_that_is_gone_is_told(client: httpx.Client, moto: str) -> None:
    fill(moto, "gone", {})
    with pytest.raises(SourceGone, match=r"a\.json"):
        read(s3_source(client, moto, "gone"), SourceFile(path="a.json", size=1))


def test_a_public_bucket_is_read_without_a_signature(client: httpx.Client) -> None:
    with origin() as somebody:
        somebody.answers("/public", Reply(200, b"<ListBucketResult></ListBucketResult>"))
        with pytest.raises(SourceGone):
            s3_source(client, somebody.url(), "public", keys=S3Keys()).describe()
        assert "X-Amz" not in somebody.seen[0].query
        assert "authorization" not in somebody.seen[0].headers


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (
            Reply(403, b"<Error><Code>InvalidAccessKeyId</Code></Error>"),
            SourceUnauthorized,
            "does not know the access key",
        ),
        (Reply(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>"), SourceUnauthorized, "secret key wrong"),
        (Reply(400, b"<Error><Code>ExpiredToken</Code></Error>"), SourceUnauthorized, "token expired"),
        (Reply(403, b"<Error><Code>AccessDenied</Code></Error>"), SourceUnauthorized, "s3:ListBucket"),
        (Reply(503, b"<Error><Code>SlowDown</Code></Error>", {"Retry-After": "3"}), SourceUnavailable, "SlowDown"),
        (Reply(301, b"", {"x-amz-bucket-region": "eu-west-3"}), SourceBroken, "it is in eu-west-3"),
        (Reply(307, b"", {"Location": "http://169.254.169.254/"}), SourceBroken, "another region"),
        (Reply(400, b"<Error><Message>s3cr3t/+= is odd</Message></Error>"), SourceBroken, "says: ••• is odd"),
        (Reply(200, b"<html></html>"), SourceBroken, "does not answer as S3 does"),
    ],
)
def test_what_s3_says_is_understood(client: httpx.Client, reply: Reply, kind: type[Exception], words: str) -> None:
    with origin() as somebody:
        somebody.answers("/bucket", reply)
        with pytest.raises(kind, match=words):
            s3_source(client, somebody.url(), "bucket").describe()
        assert len(somebody.seen) == 1


def test_an_endpoint_that_lists_what_lies_elsewhere_or_without_end_is_refused(client: httpx.Client) -> None:
    page = b"<ListBucketResult>%s</ListBucketResult>"
    entry = b"<Contents><Key>other/a</Key><Size>1</Size></Contents>"
    again = b"<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
    with origin() as somebody:
        somebody.answers("/bucket", Reply(200, page % entry))
        with pytest.raises(SourceBroken, match="elsewhere"):
            s3_source(client, somebody.url(), "bucket", prefix="mine").describe()
        somebody.answers("/bucket", Reply(200, page % again))
        with pytest.raises(SourceBroken, match="does not end"):
            s3_source(client, somebody.url(), "bucket").describe()


def test_the_machines_own_aws_configuration_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://169.254.169.254")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OPERATOR")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "operator-secret")
    asked: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        return httpx.Response(200, stream=httpx.ByteStream(b"<ListBucketResult></ListBucketResult>"))

    for keys in (S3Keys(), KEYS):
        with httpx.Client(transport=httpx.MockTransport(answer)) as client, pytest.raises(SourceGone):
            S3Source(client, bucket="bucket", region="eu-central-1", keys=keys).describe()
    assert [url.host for url in asked] == ["bucket.s3.eu-central-1.amazonaws.com"] * 2
    assert "OPERATOR" not in "".join(map(str, asked))
    assert "X-Amz-SignedHeaders=host&" in str(asked[1])


def test_the_guard_holds_for_s3_too(moto: str) -> None:
    with guarded_client(AddressPolicy()) as client, pytest.raises(OutboundRefused, match="IMPORT_ALLOW"):
        s3_source(client, moto, "bucket").describe()


@pytest.mark.parametrize(
    "wrong",
    [
        {"bucket": "a/b"},
        {"bucket": ""},
        {"region": "x@evil.example/"},
        {"prefix": "a/../b"},
        {"prefix": "a//b"},
        {"keys": S3Keys(access_key_id="a")},
        {"keys": S3Keys(access_key_id="a", secret_access_key="b c")},
        {"endpoint_url": "http://127.0.0.1/?x=y"},
    ],
)
def test_wrong_arguments_are_named(client: httpx.Client, wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as refused:
        S3Source(client, **{"bucket": "bucket", **wrong})  # type: ignore[arg-type]
    assert refused.value.field in wrong


def test_keys_do_not_show() -> None:
    assert "s3cr3t" not in repr(KEYS)
    assert "tok" not in repr(KEYS)


def test_a_server_that_ignores_ranges_and_etags_is_read_from_the_beginning(client: httpx.Client) -> None:
    def whole(server: Origin) -> SourceFile:
        server.answers("/bucket/a.json", Reply(200, b"0123456789"))
        return SourceFile(path="a.json", size=10, etag='"v1"')

    with origin() as somebody:
        file = whole(somebody)
        assert read(s3_source(client, somebody.url(), "bucket"), file, offset=4) == b"456789"
        assert somebody.seen[0].headers["if-match"] == '"v1"'
        somebody.answers("/bucket/a.json", Reply(200, b"0123456789", {"ETag": '"v2"'}))
        with pytest.raises(SourceChanged):
            read(s3_source(client, somebody.url(), "bucket"), file, offset=4)
