"""The object store as a bucket of S3, or of what speaks S3 (MinIO, Ceph, a neocloud's own). Imported only where
S3_BUCKET is set, through storage.object_store.

<prefix><tenant id>/<sha256>                     content; only we write here
<prefix>.incoming/<tenant id>/<sha256>.<size>    what a client has PUT by a presigned URL
<prefix>.incoming/<tenant id>/<32 hex>           parts put together of which nobody knew the hash

A presigned URL can be used again until it expires. So none leads to content: what came by one is copied by S3 itself,
once, when somebody asks for it. The links of parts die when their transfer is completed, which only we can do.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import uuid
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from django.conf import settings

from freehold.common.env import ConfigurationError
from freehold.common.errors import NotFound, Refused, Unavailable
from freehold.registry.storage.base import Completed, Multipart, Part, Stored, check_sha256, part_bytes_of
from freehold.registry.storage.bucket import Bucket, Head, Location
from freehold.registry.storage.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from typing import BinaryIO

    from freehold.registry.storage.bucket import Listed

_INCOMING: Final = ".incoming"
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_UNNAMED: Final = re.compile(r"([0-9a-f]{32}):(.+)")


@lru_cache(maxsize=1)
def configured() -> S3Store:
    """The store of this installation's settings; one a process, safe to use from several threads."""
    prefix = settings.S3_PREFIX.strip("/")
    location = Location(
        bucket=settings.S3_BUCKET,
        region=settings.S3_REGION,
        endpoint_url=settings.S3_ENDPOINT_URL,
        public_endpoint_url=settings.S3_PUBLIC_ENDPOINT_URL,
        access_key_id=settings.S3_ACCESS_KEY_ID,
        secret_access_key=settings.S3_SECRET_ACCESS_KEY,
        addressing_style=settings.S3_ADDRESSING_STYLE,
    )
    try:
        bucket = Bucket(location)
    except ValueError as error:
        raise ConfigurationError(f"The object store's settings (S3_…) cannot be used: {error}") from error
    return S3Store(bucket, prefix=f"{prefix}/" if prefix else "")


_LARGEST_PUT: Final = 5 * 1024**3


class S3Store:
    """ObjectStore over a bucket. Every method may raise Unavailable: S3 is away, or refuses us.

    `prefix` comes before every key: empty, or ending with a slash.
    """

    def __init__(self, bucket: Bucket, *, prefix: str = "") -> None:
        self._bucket, self._prefix = bucket, prefix

    def size(self, tenant_id: uuid.UUID, sha256: str) -> int | None:
        """As ObjectStore. What a client has PUT by upload_url becomes content here."""
        found = self._bucket.head(self._key(tenant_id, sha256))
        return found.size if found else self._adopt(tenant_id, sha256)

    def open(self, tenant_id: uuid.UUID, sha256: str) -> BinaryIO:
        """As ObjectStore; read by ranges, as far as it is read."""
        return self._bucket.open(self._key(tenant_id, sha256))[0]

    def path(self, tenant_id: uuid.UUID, sha256: str) -> None:
        """None: it is elsewhere."""

    def writer(self, tenant_id: uuid.UUID, *, sha256: str, size: int) -> Spool:
        """As ObjectStore. Passes through this process's disk; S3 checks the hash once more."""
        key = self._key(tenant_id, sha256)

        def send(file: BinaryIO, digest: bytes, _: bytes) -> str:
            self._bucket.put(key, file, sha256=digest)
            return sha256

        return Spool(size=size, sha256=sha256, send=send)

    def delete(self, tenant_id: uuid.UUID, sha256: str) -> None:
        """As ObjectStore, and of what a client has PUT and nobody asked for."""
        self._bucket.delete(self._key(tenant_id, sha256))
        for entry in list(self._bucket.listing(self._incoming(tenant_id, f"{sha256}."))):
            self._bucket.delete(entry.key)

    def listing(self, tenant_id: uuid.UUID) -> Iterator[Stored]:
        """As ObjectStore."""
        for entry in self._bucket.listing(f"{self._prefix}{tenant_id}/"):
            name = entry.key.rpartition("/")[2]
            if _HASH.fullmatch(name):
                yield Stored(sha256=name, size=entry.size, modified_at=entry.modified_at)

    def sweep(self, *, before: datetime) -> int:
        """As ObjectStore: what has come and was never asked for. Multiparts that nobody knows are for a lifecycle rule
        of the bucket (docs/storage.md)."""
        waiting = self._bucket.listing(f"{self._prefix}{_INCOMING}/")
        old = [entry.key for entry in waiting if entry.modified_at < before]
        for key in old:
            self._bucket.delete(key)
        return len(old)

    def upload_url(self, tenant_id: uuid.UUID, *, sha256: str, size: int, seconds: int) -> str | None:
        """As ObjectStore. The size is signed: S3 takes no other. None for more than S3 takes in one PUT."""
        if size > _LARGEST_PUT:
            return None
        return self._bucket.presigned(
            "put_object", seconds, Key=self._arrival(tenant_id, sha256, size), ContentLength=size
        )

    def download_url(self, tenant_id: uuid.UUID, *, sha256: str, filename: str, seconds: int) -> str:
        """As ObjectStore. Signed for any content: the GET itself finds out whether it is there."""
        return self._bucket.presigned(
            "get_object",
            seconds,
            Key=self._key(tenant_id, sha256),
            ResponseContentDisposition=f"attachment; filename*=UTF-8''{quote(filename or sha256, safe='')}",
            ResponseContentType="application/octet-stream",
        )

    def multipart_begin(self, tenant_id: uuid.UUID, *, sha256: str, size: int) -> Multipart:
        """As ObjectStore. Its id is S3's upload id; without a hash, the name of its place comes before it."""
        name = "" if sha256 else uuid.uuid4().hex
        key = self._key(tenant_id, sha256) if sha256 else self._incoming(tenant_id, name)
        upload_id = self._bucket.parts_begin(key)
        return Multipart(
            tenant_id=tenant_id,
            id=upload_id if sha256 else f"{name}:{upload_id}",
            sha256=sha256,
            size=size,
            part_bytes=part_bytes_of(size),
        )

    def part_url(self, multipart: Multipart, *, number: int, seconds: int) -> str:
        """As ObjectStore. The size is signed: S3 takes no other."""
        key, upload_id = self._named(multipart)
        length = multipart.length(number)
        return self._bucket.presigned(
            "upload_part", seconds, Key=key, UploadId=upload_id, PartNumber=number, ContentLength=length
        )

    def part_writer(self, multipart: Multipart, *, number: int) -> Spool:
        """As ObjectStore. Passes through this process's disk; S3 checks its MD5."""
        key, upload_id = self._named(multipart)

        def send(file: BinaryIO, _: bytes, md5: bytes) -> str:
            return self._bucket.part_put(key, upload_id, number, file, md5=md5)

        return Spool(size=multipart.length(number), send=send)

    def parts(self, multipart: Multipart) -> list[Part]:
        """As ObjectStore. A part of another size than it should have has not arrived whole."""
        numbers = range(1, multipart.parts + 1)
        return [
            part
            for part in self._bucket.parts(*self._named(multipart))
            if part.number in numbers and part.size == multipart.length(part.number)
        ]

    def multipart_complete(self, multipart: Multipart, parts: Sequence[Part]) -> Completed:
        """As ObjectStore. Where the hash was declared, somebody has to read it later; else it is read now."""
        tenant_id, sha256 = multipart.tenant_id, multipart.sha256
        if sha256:
            if self.size(tenant_id, sha256) == multipart.size:
                self.multipart_abort(multipart)
            else:
                self._complete(multipart, parts)
            return Completed(sha256=sha256, verified=False)
        key = self._named(multipart)[0]
        if self._bucket.head(key) is None:  # else it got this far before
            self._complete(multipart, parts)
        found, head = self._hash(key)
        if self.size(tenant_id, found) is None:
            self._bucket.copy(key, self._key(tenant_id, found), head)
        self._bucket.delete(key)
        return Completed(sha256=found, verified=True)

    def multipart_abort(self, multipart: Multipart) -> None:
        """As ObjectStore."""
        key, upload_id = self._named(multipart)
        with contextlib.suppress(NotFound):
            self._bucket.parts_abort(key, upload_id)
        if not multipart.sha256:
            self._bucket.delete(key)

    def _complete(self, multipart: Multipart, parts: Sequence[Part]) -> None:
        key, upload_id = self._named(multipart)
        try:
            arrived = self.parts(multipart)
            _check_parts(multipart, named=parts, arrived=arrived)
            self._bucket.parts_complete(key, upload_id, arrived)
        except NotFound:
            found = self._bucket.head(key)
            if found is None or found.size != multipart.size:
                raise
            # Somebody else has just completed it.

    def _hash(self, key: str) -> tuple[str, Head]:
        """SHA-256 of an object, which is read once, and what it was that was read."""
        try:
            stream, head = self._bucket.open(key)
        except FileNotFoundError:
            raise NotFound("This upload is gone. Start it again.") from None
        with stream:
            return hashlib.file_digest(stream, "sha256").hexdigest(), head

    def _adopt(self, tenant_id: uuid.UUID, sha256: str) -> int | None:
        """Makes content of what a client has PUT, if it has the size it was to have."""
        for entry in self._bucket.listing(self._incoming(tenant_id, f"{sha256}.")):
            if entry.key == self._arrival(tenant_id, sha256, entry.size):
                return self._adopt_one(entry, self._key(tenant_id, sha256))
        return None

    def _adopt_one(self, entry: Listed, key: str) -> int | None:
        try:
            self._bucket.copy(entry.key, key, Head(size=entry.size, etag=entry.etag))
        except FileNotFoundError:  # somebody else has just done so
            found = self._bucket.head(key)
            return found.size if found else None
        except ConnectionError:
            raise Unavailable("This content is being uploaded once more at this moment. Ask again.") from None
        self._bucket.delete(entry.key)
        return entry.size

    def _key(self, tenant_id: uuid.UUID, sha256: str) -> str:
        return f"{self._prefix}{tenant_id}/{check_sha256(sha256)}"

    def _incoming(self, tenant_id: uuid.UUID, name: str) -> str:
        return f"{self._prefix}{_INCOMING}/{tenant_id}/{name}"

    def _arrival(self, tenant_id: uuid.UUID, sha256: str, size: int) -> str:
        return self._incoming(tenant_id, f"{check_sha256(sha256)}.{size}")

    def _named(self, multipart: Multipart) -> tuple[str, str]:
        """Key and S3's upload id. Raises NotFound for an id that is not one of ours."""
        if multipart.sha256:
            return self._key(multipart.tenant_id, multipart.sha256), multipart.id
        unnamed = _UNNAMED.fullmatch(multipart.id)
        if unnamed is None:
            raise NotFound("This upload is gone. Start it again.")
        return self._incoming(multipart.tenant_id, unnamed[1]), unnamed[2]


def _check_parts(multipart: Multipart, *, named: Sequence[Part], arrived: Sequence[Part]) -> None:
    missing = multipart.parts - len(arrived)
    if missing:
        raise Refused(f"{missing} of {multipart.parts} parts have not arrived. Upload the file again.")
    if [(part.number, part.etag.strip('"')) for part in named] != [(part.number, part.etag) for part in arrived]:
        raise Refused("The parts named are not those that have arrived. Upload the file again.")
