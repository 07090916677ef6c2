"""Both stores keep the same promises; and what S3's alone has to keep: presigned URLs, copies, readable errors."""

from __future__ import annotations

import hashlib
import io
import os
import uuid
import zipfile
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from freehold.common import clock
from freehold.common.errors import InvalidInput, NotFound, Refused, Unavailable
from freehold.registry.storage import base
from freehold.registry.storage.base import Multipart, ObjectStore, Part, Writer
from freehold.registry.storage.bucket import Bucket, Location
from freehold.registry.storage.local import LocalStore
from freehold.registry.storage.s3 import S3Store
from tests.factories.ports import free_port
from tests.fakes.s3 import s3_client

TENANT = uuid.UUID(int=1)
OTHER = uuid.UUID(int=2)
PART = 5 * 1024 * 1024  # the smallest that S3 takes


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "local":
        return LocalStore(tmp_path)
    return S3Store(Bucket(request.getfixturevalue("s3_location")), prefix="objects/")


@pytest.fixture
def s3(s3_location: Location) -> S3Store:
    return S3Store(Bucket(s3_location), prefix="objects/")


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "PART_BYTES", PART)


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def put(store: ObjectStore, tenant_id: uuid.UUID, content: bytes) -> str:
    writer = store.writer(tenant_id, sha256=sha256_of(content), size=len(content))
    return write(writer, content)


def write(writer: Writer, content: bytes) -> str:
    try:
        writer.write(content)
        return writer.commit()
    finally:
        writer.abort()


def send_part(store: ObjectStore, multipart: Multipart, number: int, content: bytes) -> Part:
    start = (number - 1) * multipart.part_bytes
    chunk = content[start : start + multipart.length(number)]
    writer = store.part_writer(multipart, number=number)
    for at in range(0, len(chunk), 1_000_000):
        writer.write(chunk[at : at + 1_000_000])
    return Part(number=number, size=len(chunk), etag=writer.commit())


def read(store: ObjectStore, tenant_id: uuid.UUID, sha256: str) -> bytes:
    with store.open(tenant_id, sha256) as stream:
        return stream.read()


def _upload_url(store: S3Store, *, sha256: str, size: int, seconds: int) -> str:
    url = store.upload_url(TENANT, sha256=sha256, size=size, seconds=seconds)
    assert url is not None
    return url


def test_content_is_found_by_its_own_tenant_only(store: ObjectStore) -> None:
    sha256 = put(store, TENANT, b"weights")
    assert sha256 == sha256_of(b"weights")
    assert store.size(TENANT, sha256) == 7
    assert read(store, TENANT, sha256) == b"weights"
    assert store.size(OTHER, sha256) is None
    with pytest.raises(FileNotFoundError):
        store.open(OTHER, sha256)
    assert put(store, TENANT, b"weights") == sha256
    assert [(entry.sha256, entry.size) for entry in store.listing(TENANT)] == [(sha256, 7)]
    assert list(store.listing(OTHER)) == []


def test_empty_content_is_content(store: ObjectStore) -> None:
    sha256 = put(store, TENANT, b"")
    assert store.size(TENANT, sha256) == 0
    assert read(store, TENANT, sha256) == b""


@pytest.mark.parametrize("content", [b"other..", b"short", b"too long"])
def test_a_mismatch_leaves_nothing(store: ObjectStore, content: bytes) -> None:
    sha256 = sha256_of(b"weights")
    writer = store.writer(TENANT, sha256=sha256, size=7)
    with pytest.raises(Refused, match="Upload the file again"):
        write(writer, content)
    assert store.size(TENANT, sha256) is None
    assert list(store.listing(TENANT)) == []


@pytest.mark.parametrize("sha256", ["../../etc/passwd", "", "A" * 64, "a" * 63])
def test_a_key_that_is_no_hash_is_refused(store: ObjectStore, sha256: str) -> None:
    with pytest.raises(InvalidInput):
        store.size(TENANT, sha256)


def test_deleting_is_for_one_tenant_and_harmless_twice(store: ObjectStore) -> None:
    sha256 = put(store, TENANT, b"weights")
    put(store, OTHER, b"weights")
    store.delete(TENANT, sha256)
    store.delete(TENANT, sha256)
    assert store.size(TENANT, sha256) is None
    assert store.size(OTHER, sha256) == 7


def test_a_content_can_be_read_anywhere(store: ObjectStore) -> None:
    content = os.urandom(3_000_000)
    with store.open(TENANT, put(store, TENANT, content)) as stream:
        assert stream.seekable()
        stream.seek(-10, io.SEEK_END)
        assert stream.read() == content[-10:]
        assert stream.read() == b""
        stream.seek(2_500_000)
        assert stream.read(20) == content[2_500_000:2_500_020]
        stream.seek(0)
        assert sha256_of(stream.read()) == sha256_of(content)


def test_a_zip_is_read_by_its_directory(store: ObjectStore) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("ballast", os.urandom(4_000_000))
        archive.writestr("last", b"found")
    with store.open(TENANT, put(store, TENANT, buffer.getvalue())) as stream, zipfile.ZipFile(stream) as archive:
        assert archive.read("last") == b"found"


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("named", [True, False])
def test_parts_in_any_order_become_content(store: ObjectStore, named: bool) -> None:
    content = os.urandom(2 * PART + 17)
    sha256 = sha256_of(content)
    multipart = store.multipart_begin(TENANT, sha256=sha256 if named else "", size=len(content))
    assert (multipart.parts, multipart.part_bytes, multipart.sha256) == (3, PART, sha256 if named else "")
    for number in (3, 1):
        send_part(store, multipart, number, content)
    assert [(part.number, part.size) for part in store.parts(multipart)] == [(1, PART), (3, 17)]
    with pytest.raises(Refused, match="1 of 3 parts have not arrived"):
        store.multipart_complete(multipart, store.parts(multipart))
    send_part(store, multipart, 2, content)
    assert store.size(TENANT, sha256) is None
    done = store.multipart_complete(multipart, store.parts(multipart))
    assert done.sha256 == sha256
    assert read(store, TENANT, sha256) == content
    assert [entry.sha256 for entry in store.listing(TENANT)] == [sha256]
    if named:
        assert store.multipart_complete(multipart, []).sha256 == sha256, "twice is once"
    else:
        assert done.verified
    store.multipart_abort(multipart)
    assert store.size(TENANT, sha256) == len(content)


@pytest.mark.usefixtures("small_parts")
def test_parts_must_be_those_that_arrived(store: ObjectStore) -> None:
    content = os.urandom(PART + 1)
    multipart = store.multipart_begin(TENANT, sha256=sha256_of(content), size=len(content))
    first, second = (send_part(store, multipart, number, content) for number in (1, 2))
    with pytest.raises(Refused, match="parts named"):
        store.multipart_complete(multipart, [first, Part(number=2, size=second.size, etag="0" * 32)])
    with pytest.raises(InvalidInput, match="the parts 1 to 2, not 3"):
        store.part_writer(multipart, number=3)
    assert store.multipart_complete(multipart, [first, second]).sha256 == sha256_of(content)


@pytest.mark.usefixtures("small_parts")
def test_a_part_of_another_size_is_refused(store: ObjectStore) -> None:
    multipart = store.multipart_begin(TENANT, sha256="a" * 64, size=10)
    for content in (b"123456789", b"12345678901"):
        writer = store.part_writer(multipart, number=1)
        with pytest.raises(Refused):
            write(writer, content)
    assert store.parts(multipart) == []


def test_an_aborted_transfer_is_gone(store: ObjectStore) -> None:
    multipart = store.multipart_begin(TENANT, sha256="a" * 64, size=10)
    send_part(store, multipart, 1, b"0123456789")
    store.multipart_abort(multipart)
    store.multipart_abort(multipart)
    with pytest.raises(NotFound, match="Start it again"):
        store.parts(multipart)
    with pytest.raises(NotFound):
        store.multipart_complete(multipart, [])


def test_sweeping_keeps_content(store: ObjectStore) -> None:
    sha256 = put(store, TENANT, b"weights")
    assert store.sweep(before=clock.now() + timedelta(hours=1)) == 0
    assert store.size(TENANT, sha256) == 7


# S3's alone


def query(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def test_a_client_puts_content_by_itself(s3: S3Store) -> None:
    content = os.urandom(100_000)
    sha256 = sha256_of(content)
    url = _upload_url(s3, sha256=sha256, size=len(content), seconds=3600)
    signed = query(url)
    assert signed["X-Amz-Expires"] == "3600"
    assert signed["X-Amz-SignedHeaders"] == "content-length;host"
    assert signed["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert s3.size(TENANT, sha256) is None
    assert httpx.put(url, content=content).status_code == 200
    assert list(s3.listing(TENANT)) == [], "nobody has asked for it yet"
    assert s3.size(OTHER, sha256) is None
    assert s3.size(TENANT, sha256) == len(content)
    assert read(s3, TENANT, sha256) == content


def test_an_old_link_cannot_change_content(s3: S3Store) -> None:
    sha256 = sha256_of(b"weights")
    url = _upload_url(s3, sha256=sha256, size=7, seconds=3600)
    httpx.put(url, content=b"weights")
    assert s3.size(TENANT, sha256) == 7
    httpx.put(url, content=b"malware")
    assert s3.size(TENANT, sha256) == 7
    assert read(s3, TENANT, sha256) == b"weights"
    assert s3.sweep(before=clock.now() - timedelta(hours=1)) == 0
    assert s3.sweep(before=clock.now() + timedelta(hours=1)) == 1
    assert read(s3, TENANT, sha256) == b"weights"


def test_deleting_takes_along_what_nobody_has_asked_for(s3: S3Store) -> None:
    sha256 = sha256_of(b"weights")
    httpx.put(_upload_url(s3, sha256=sha256, size=7, seconds=3600), content=b"weights")
    s3.delete(TENANT, sha256)
    assert s3.size(TENANT, sha256) is None


def test_what_came_in_another_size_is_never_content(s3: S3Store) -> None:
    sha256 = sha256_of(b"weights")
    url = _upload_url(s3, sha256=sha256, size=7, seconds=3600)
    httpx.put(url, content=b"far too long")  # S3 itself refuses this: the length is signed
    assert s3.size(TENANT, sha256) is None
    httpx.put(url, content=b"weights")
    assert s3.size(TENANT, sha256) == 7


def test_a_client_gets_content_as_an_attachment(s3: S3Store) -> None:
    sha256 = put(s3, TENANT, b"weights")
    url = s3.download_url(TENANT, sha256=sha256, filename='häh".safetensors', seconds=10**9)
    assert query(url)["X-Amz-Expires"] == "604800", "S3 signs for a week at most"
    answer = httpx.get(url, headers={"Range": "bytes=2-4"})
    assert (answer.status_code, answer.content) == (206, b"igh")
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''h%C3%A4h%22.safetensors"
    assert answer.headers["content-type"] == "application/octet-stream"


@pytest.mark.usefixtures("small_parts")
def test_a_client_puts_parts_by_itself(s3: S3Store) -> None:
    content = os.urandom(PART + 5)
    multipart = s3.multipart_begin(TENANT, sha256=sha256_of(content), size=len(content))
    sizes = []
    for number in (1, 2):
        url = s3.part_url(multipart, number=number, seconds=60)
        signed = query(url)
        assert signed["X-Amz-SignedHeaders"] == "content-length;host"
        assert (signed["partNumber"], signed["uploadId"]) == (str(number), multipart.id)
        start = (number - 1) * PART
        sizes.append(httpx.put(url, content=content[start : start + PART]).headers["etag"])
    named = [Part(number=number, size=0, etag=etag) for number, etag in enumerate(sizes, 1)]
    done = s3.multipart_complete(multipart, named)
    assert (done.sha256, done.verified) == (sha256_of(content), False)


def test_a_part_of_another_size_has_not_arrived(s3: S3Store) -> None:
    multipart = s3.multipart_begin(TENANT, sha256="a" * 64, size=10)
    httpx.put(s3.part_url(multipart, number=1, seconds=60), content=b"short")
    assert s3.parts(multipart) == []
    with pytest.raises(Refused, match="1 of 1 parts have not arrived"):
        s3.multipart_complete(multipart, [])


@pytest.mark.usefixtures("small_parts")
def test_clients_can_know_the_store_by_another_name(s3_location: Location) -> None:
    place = Location(**{**vars(s3_location), "public_endpoint_url": "https://s3.example.com"})
    store = S3Store(Bucket(place))
    url = _upload_url(store, sha256="a" * 64, size=1, seconds=60)
    assert url.startswith(f"https://s3.example.com/{place.bucket}/.incoming/{TENANT}/{'a' * 64}.1?")


@pytest.mark.usefixtures("small_parts")
def test_content_too_large_for_one_copy_is_copied_in_parts(s3_location: Location) -> None:
    store = S3Store(Bucket(s3_location, copy_bytes=PART))
    content = os.urandom(2 * PART + 3)
    multipart = store.multipart_begin(TENANT, sha256="", size=len(content))
    parts = [send_part(store, multipart, number, content) for number in (1, 2, 3)]
    assert store.multipart_complete(multipart, parts).sha256 == sha256_of(content)
    assert read(store, TENANT, sha256_of(content)) == content


@pytest.mark.usefixtures("small_parts")
def test_an_unnamed_transfer_that_was_put_together_before_is_finished(s3: S3Store, s3_location: Location) -> None:
    content = os.urandom(PART + 5)
    multipart = s3.multipart_begin(TENANT, sha256="", size=len(content))
    parts = [send_part(s3, multipart, number, content) for number in (1, 2)]
    name, _, upload_id = multipart.id.partition(":")
    Bucket(s3_location).parts_complete(f"objects/.incoming/{TENANT}/{name}", upload_id, parts)
    done = s3.multipart_complete(multipart, parts)
    assert (done.sha256, done.verified) == (sha256_of(content), True)
    assert s3.sweep(before=clock.now() + timedelta(hours=1)) == 0, "nothing of it is left"


def test_an_id_of_another_kind_names_no_transfer(s3: S3Store) -> None:
    alien = Multipart(tenant_id=TENANT, id="../../x:y", sha256="", size=1, part_bytes=PART)
    with pytest.raises(NotFound):
        s3.parts(alien)


def test_what_is_read_is_one_object(s3: S3Store, s3_location: Location) -> None:
    content = os.urandom(3_000_000)
    sha256 = put(s3, TENANT, content)
    stream = s3.open(TENANT, sha256)
    assert stream.read(10) == content[:10]
    s3_client(s3_location.endpoint_url).put_object(
        Bucket=s3_location.bucket, Key=f"objects/{TENANT}/{sha256}", Body=bytes(3_000_000)
    )
    stream.seek(2_000_000)
    with pytest.raises(OSError, match="changed"):
        stream.read(10)


def test_a_missing_bucket_is_named_to_the_operator(s3_url: str, s3_location: Location) -> None:
    store = S3Store(Bucket(Location(**{**vars(s3_location), "bucket": "no-such-bucket-here"})))
    with pytest.raises(Unavailable, match="no bucket 'no-such-bucket-here'"):
        put(store, TENANT, b"weights")


def test_a_store_that_is_away_is_said_to_be() -> None:
    place = Location(
        bucket="b", endpoint_url=f"http://127.0.0.1:{free_port()}", access_key_id="a", secret_access_key="s"
    )
    with pytest.raises(Unavailable, match="cannot be reached"):
        S3Store(Bucket(place)).size(TENANT, "a" * 64)
