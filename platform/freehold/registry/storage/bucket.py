"""One bucket of S3: a call each, in our own errors. The registry's one door to boto3, together with sources.s3.

Bodies and listings are streamed; nothing here knows of tenants or contents (that is s3.py).
"""

from __future__ import annotations

import base64
import io
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from freehold.common.errors import NotFound, Refused, Unavailable
from freehold.common.logging import get_logger
from freehold.registry.storage.base import Part, part_bytes_of
from freehold.registry.storage.ranges import BLOCK, RangeReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from typing import BinaryIO

log = get_logger(__name__)

# S3's limits: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
COPY_BYTES: Final = 5 * 1024**3  # of one CopyObject; also the largest part of a copy in parts
_COPY_PART_BYTES: Final = 1024**3
_LONGEST_SECONDS: Final = 7 * 24 * 3600  # of a presigned URL

_MISSING: Final = frozenset({"404", "NoSuchKey", "NotFound"})
_REFUSALS: Final = frozenset(
    {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
)
_DAMAGED: Final = frozenset({"InvalidPart", "InvalidPartOrder", "EntityTooSmall", "BadDigest", "InvalidDigest"})
_TYPE: Final = "application/octet-stream"


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where a bucket is. Empty texts mean: as boto3 finds it (the environment, the machine's role, AWS).

    Attributes:
        public_endpoint_url: the name clients know S3 by, where it is another one.
        addressing_style: `auto`, `path` or `virtual`.
    """

    bucket: str
    region: str = ""
    endpoint_url: str = ""
    public_endpoint_url: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""
    addressing_style: str = "auto"


@dataclass(frozen=True, kw_only=True)
class Head:
    """What S3 says of an object without sending it."""

    size: int
    etag: str


@dataclass(frozen=True, kw_only=True)
class Listed:
    """An object as a listing has it."""

    key: str
    size: int
    etag: str
    modified_at: datetime


class Bucket:
    """Safe to use from several threads. Every method may raise Unavailable: S3 is away, or refuses us.

    Raises ValueError for a location that cannot be one.
    """

    def __init__(self, location: Location, *, copy_bytes: int = COPY_BYTES) -> None:
        self._location, self._copy_bytes = location, copy_bytes
        self._name = location.bucket
        public = location.public_endpoint_url
        try:
            self._client = _client(location, location.endpoint_url)
            self._public = _client(location, public) if public else self._client
        except BotoCoreError as error:
            raise ValueError(str(error)) from error

    def head(self, key: str) -> Head | None:
        """An object's size and etag; None where there is none."""
        try:
            with self._translated():
                answer = self._client.head_object(Bucket=self._name, Key=key)
        except FileNotFoundError:
            return None
        return Head(size=int(answer["ContentLength"]), etag=str(answer["ETag"]))

    def open(self, key: str) -> tuple[io.BufferedReader, Head]:
        """An object for reading, seekable; what is read is of that one object, even if another takes its key. Raises
        FileNotFoundError."""
        found = self.head(key)
        if found is None:
            raise FileNotFoundError(key)
        return io.BufferedReader(RangeReader(partial(self._fetch, key, found.etag), found.size), BLOCK), found

    def _fetch(self, key: str, etag: str, first: int, last: int) -> _Body:
        with self._translated():
            answer = self._client.get_object(Bucket=self._name, Key=key, Range=f"bytes={first}-{last}", IfMatch=etag)
        return _Body(answer["Body"])

    def put(self, key: str, file: BinaryIO, *, sha256: bytes) -> None:
        """Stores an object, whose digest S3 checks."""
        with self._translated():
            self._client.put_object(
                Bucket=self._name,
                Key=key,
                Body=file,
                ContentType=_TYPE,
                ChecksumSHA256=base64.b64encode(sha256).decode(),
            )

    def delete(self, key: str) -> None:
        """Removes an object; harmless where there is none."""
        with self._translated():
            self._client.delete_object(Bucket=self._name, Key=key)

    def listing(self, prefix: str) -> Iterator[Listed]:
        """Every object whose key begins so."""
        with self._translated():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=prefix)
            for page in pages:
                for entry in page.get("Contents", []):
                    yield Listed(
                        key=str(entry["Key"]),
                        size=int(entry["Size"]),
                        etag=str(entry["ETag"]),
                        modified_at=entry["LastModified"],
                    )

    def presigned(self, operation: str, seconds: int, **parameters: object) -> str:
        """A URL by which a client does `operation` (boto3's name of it) by itself."""
        with self._translated():
            url: str = self._public.generate_presigned_url(
                operation,
                Params={"Bucket": self._name, **parameters},
                ExpiresIn=max(1, min(seconds, _LONGEST_SECONDS)),
            )
        return url

    def parts_begin(self, key: str) -> str:
        """S3's id of a new multipart upload."""
        with self._translated():
            answer = self._client.create_multipart_upload(Bucket=self._name, Key=key, ContentType=_TYPE)
        return str(answer["UploadId"])

    def part_put(self, key: str, upload_id: str, number: int, file: BinaryIO, *, md5: bytes) -> str:
        """Stores a part, and returns its etag. By MD5: S3 takes a part's SHA-256 only where all parts have one, and
        those that clients send have none."""
        with self._translated():
            answer = self._client.upload_part(
                Bucket=self._name,
                Key=key,
                UploadId=upload_id,
                PartNumber=number,
                Body=file,
                ContentMD5=base64.b64encode(md5).decode(),
            )
        return _bare(answer["ETag"])

    def parts(self, key: str, upload_id: str) -> list[Part]:
        """The parts that have arrived, by number. Raises NotFound where the upload is gone."""
        with self._translated():
            pages = self._client.get_paginator("list_parts").paginate(Bucket=self._name, Key=key, UploadId=upload_id)
            return [
                Part(number=int(part["PartNumber"]), size=int(part["Size"]), etag=_bare(part["ETag"]))
                for page in pages
                for part in page.get("Parts", [])
            ]

    def parts_complete(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        """Makes an object of the parts. Raises NotFound where the upload is gone."""
        with self._translated():
            self._client.complete_multipart_upload(
                Bucket=self._name,
                Key=key,
                UploadId=upload_id,
                MultipartUpload={"Parts": [{"PartNumber": part.number, "ETag": part.etag} for part in parts]},
            )

    def parts_abort(self, key: str, upload_id: str) -> None:
        """Throws the parts away. Raises NotFound where the upload is gone."""
        with self._translated():
            self._client.abort_multipart_upload(Bucket=self._name, Key=key, UploadId=upload_id)

    def copy(self, source: str, target: str, head: Head) -> None:
        """Copies within S3 exactly that object. Raises FileNotFoundError, or ConnectionError where it is another."""
        origin = {"CopySource": {"Bucket": self._name, "Key": source}, "CopySourceIfMatch": head.etag}
        with self._translated():
            if head.size <= self._copy_bytes:
                self._client.copy_object(Bucket=self._name, Key=target, **origin, MetadataDirective="COPY")
            else:
                self._copy_in_parts(target, origin, head.size)

    def _copy_in_parts(self, key: str, origin: dict[str, Any], size: int) -> None:
        length = min(max(_COPY_PART_BYTES, part_bytes_of(size)), self._copy_bytes)
        place = {"Bucket": self._name, "Key": key}
        place["UploadId"] = self.parts_begin(key)
        try:
            copied = []
            for number, first in enumerate(range(0, size, length), 1):
                window = f"bytes={first}-{min(first + length, size) - 1}"
                answer = self._client.upload_part_copy(**place, **origin, PartNumber=number, CopySourceRange=window)
                copied.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
            self._client.complete_multipart_upload(**place, MultipartUpload={"Parts": copied})
        except BaseException:  # also an interruption: parts nobody knows of cost money
            self._client.abort_multipart_upload(**place)
            raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            raise _translation(error, self._name) from error


class _Body:
    """A response's body whose troubles are OSErrors."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, amount: int) -> bytes:
        """As ranges.Body."""
        try:
            content: bytes = self._stream.read(amount)
        except BotoCoreError as error:
            raise ConnectionError(str(error)) from error
        return content

    def close(self) -> None:
        """As ranges.Body."""
        self._stream.close()


def _client(location: Location, endpoint_url: str) -> Any:
    session = boto3.session.Session(
        aws_access_key_id=location.access_key_id or None,
        aws_secret_access_key=location.secret_access_key or None,
        region_name=location.region or None,
    )
    return session.client(
        "s3",
        endpoint_url=endpoint_url or None,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": location.addressing_style},
            retries={"mode": "standard", "total_max_attempts": 4},
            connect_timeout=5,
            read_timeout=60,
            max_pool_connections=32,
            tcp_keepalive=True,
            # Where it matters we name the checksum; others' S3 does not know all that boto3 would add.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def _bare(etag: object) -> str:
    return str(etag).strip('"')


def _translation(error: ClientError | BotoCoreError, bucket: str) -> Exception:
    """What callers know. Details are for the log."""
    code = str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""
    if code in _MISSING:
        return FileNotFoundError(f"the bucket {bucket!r} has no such object")
    if code == "NoSuchUpload":
        return NotFound("This upload is gone. Start it again.")
    if code in {"PreconditionFailed", "412"}:
        return ConnectionError("the object was changed meanwhile")
    if code in _DAMAGED:
        return Refused("What arrived is not what was sent. Upload the file again.")
    log.error("s3_failed", bucket=bucket, code=code, error=str(error))
    if code == "NoSuchBucket":
        return Unavailable(f"The object store has no bucket {bucket!r}. The operator must create it, or set S3_BUCKET.")
    if code in _REFUSALS or isinstance(error, NoCredentialsError):
        return Unavailable(
            f"The object store refuses access to the bucket {bucket!r}. The operator must check S3_ACCESS_KEY_ID, "
            "S3_SECRET_ACCESS_KEY and the bucket's policy."
        )
    return Unavailable(
        f"The object store (bucket {bucket!r}) cannot be reached, or failed. Try again in a minute; the operator finds "
        "the reason in the log (s3_failed)."
    )
