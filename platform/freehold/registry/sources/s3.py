"""A prefix of an S3 bucket as a source: AWS, or anything that speaks S3.

boto3 only signs; all bytes go through the guarded client, whose rules it could not keep (it follows redirects, reads
proxies from the environment and resolves names by itself). S3 knows no SHA-256 of what it holds: an import hashes what
it reads, and `If-Match` with the listed ETag keeps two versions of a file apart.
"""

from __future__ import annotations

import hashlib
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore import UNSIGNED
from botocore.config import Config

from freehold.common.errors import InvalidInput
from freehold.registry.sources.base import SourceFile, check_count, check_listing_time, listing_of
from freehold.registry.sources.bodies import content, range_headers
from freehold.registry.sources.errors import SourceBroken, SourceGone, SourceUnauthorized, SourceUnavailable
from freehold.registry.sources.exchange import Exchange
from freehold.registry.sources.guard import parse_url
from freehold.registry.sources.s3_listing import parse_page

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import httpx

    from freehold.common.errors import FreeholdError
    from freehold.registry.sources.base import Listing
    from freehold.registry.sources.exchange import Answer
    from freehold.registry.sources.s3_listing import S3Object

_NOBODY = "nobody"  # never sent; without any keys boto3 goes looking for the machine's own, by network if need be
_SIGNED_SECONDS = 600  # to begin an answer; one that has begun may take longer
_PAGE_KEYS = 1000
_PAGE_BYTES: Final = 16 * 1024 * 1024
_PAGES = 2_000
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_REGION = re.compile(r"[a-z0-9-]{1,40}")
_KEY = re.compile(r"[\x21-\x7e]{0,4096}")

_REMEDIES: Final = {
    "InvalidAccessKeyId": "does not know the access key. Check it",
    "SignatureDoesNotMatch": "finds the secret key wrong. Check it",
    "ExpiredToken": "finds the session token expired. Give a new one",
    "InvalidToken": "finds the session token wrong. Check it",
    "TokenRefreshRequired": "finds the session token expired. Give a new one",
    "InvalidObjectState": "keeps this file in an archive. Restore it there first",
    "RequestTimeTooSkewed": "finds our clock wrong. Tell your provider",
    "AccessDenied": "denies access: the key needs s3:ListBucket and s3:GetObject (or the bucket does not exist)",
}
_BUSY = frozenset({"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable"})


@dataclass(frozen=True, kw_only=True)
class S3Keys:
    """Credentials. Without an access key, requests are not signed: for public buckets."""

    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""

    def __repr__(self) -> str:
        return f"S3Keys(access_key_id={self.access_key_id!r})"


class S3Source:
    """Everything below a prefix (base.Source). The listing's pin changes whenever any path, size or ETag does."""

    def __init__(
        self,
        client: httpx.Client,
        *,
        bucket: str,
        prefix: str = "",
        region: str = "us-east-1",
        endpoint_url: str = "",
        keys: S3Keys | None = None,
    ) -> None:
        """`endpoint_url` is empty for AWS. Raises InvalidInput, OutboundRefused. Closes `client` with itself."""
        keys = keys or S3Keys()
        prefix = prefix.strip("/")
        if not _BUCKET.fullmatch(bucket):
            raise InvalidInput("A bucket's name has 3 to 255 letters, digits, dots and dashes.", field="bucket")
        if not _REGION.fullmatch(region):
            raise InvalidInput("A region is named like eu-central-1.", field="region")
        if len(prefix) > 1000 or (prefix and {"", ".", ".."}.intersection(prefix.split("/"))):
            raise InvalidInput("The prefix has empty, '.' or '..' segments, or is too long.", field="prefix")
        if not all(map(_KEY.fullmatch, (keys.access_key_id, keys.secret_access_key, keys.session_token))):
            raise InvalidInput("The keys hold blanks or characters that no key has. Copy them anew.", field="keys")
        if bool(keys.access_key_id) != bool(keys.secret_access_key):
            raise InvalidInput("Give both access key and secret key, or neither for a public bucket.", field="keys")
        if endpoint_url:
            endpoint = parse_url(endpoint_url.strip())
            if endpoint.query or endpoint.fragment:
                raise InvalidInput("The endpoint has no query: write https://host.", field="endpoint_url")
            endpoint_url = str(endpoint).rstrip("/")
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._origin = f"s3://{bucket}/{self._prefix}" + (f" at {endpoint_url}" if endpoint_url else "")
        self._client = client
        self._exchange = Exchange(client, secrets=(keys.secret_access_key, keys.session_token))
        self._signer = _signer(region=region, endpoint_url=endpoint_url, keys=keys)

    def close(self) -> None:
        """Gives connections back."""
        self._client.close()

    def describe(self) -> Listing:
        """Every object below the prefix but those that stand for folders. Raises SourceGone where there is none."""
        files = [self._file(each) for each in self._objects() if not each.key.endswith("/")]
        if not files:
            raise SourceGone(f"There is nothing at {self._origin}. Check bucket and prefix.", field="prefix")
        files.sort(key=lambda file: file.path)
        pin = hashlib.sha256()
        for file in files:
            pin.update(f"{file.path}\0{file.size}\0{file.etag}\n".encode("utf-8", "surrogatepass"))
        return listing_of(origin=self._origin, pin=pin.hexdigest(), files=files)

    @contextmanager
    def open(self, file: SourceFile, *, offset: int = 0) -> Iterator[Iterator[bytes]]:
        """See base.Source."""
        if not 0 <= offset <= file.size:
            raise InvalidInput(f"{file.path} has {file.size} bytes: there is nothing at {offset}.", field="offset")
        if offset and offset == file.size:
            yield iter(())
            return
        headers = range_headers(offset) | ({"If-Match": file.etag} if file.etag else {})
        with self._get("get_object", {"Key": self._prefix + file.path}, headers=headers) as answer:
            if answer.status not in {200, 206}:
                raise self._error(answer, file.path)
            yield content(answer, file, offset)

    def _objects(self) -> Iterator[S3Object]:
        following, seen, count, begun = "", set[str](), 0, time.monotonic()
        while True:
            check_listing_time(begun, self._origin)
            parameters = {"Prefix": self._prefix, "MaxKeys": _PAGE_KEYS, "EncodingType": "url"}
            if following:
                parameters["ContinuationToken"] = following
            with self._get("list_objects_v2", parameters) as answer:
                if answer.status != 200:
                    raise self._error(answer, "")
                page = parse_page(answer.document(most=_PAGE_BYTES))
            count += len(page.objects)
            check_count(count, self._origin)
            yield from page.objects
            following = page.following
            if not following:
                return
            if following in seen or len(seen) >= _PAGES:
                raise SourceBroken(f"The list of {self._origin} does not end.")
            seen.add(following)

    def _file(self, listed: S3Object) -> SourceFile:
        if not listed.key.startswith(self._prefix):
            raise SourceBroken(f"{self._origin} lists what lies elsewhere: {listed.key[:200]!r}.")
        return SourceFile(path=listed.key[len(self._prefix) :], size=listed.size, etag=listed.etag or None)

    def _get(self, operation: str, parameters: Mapping[str, object], headers: dict[str, str] | None = None) -> Answer:
        """Redirects are not followed: a signature is for one host."""
        url = self._signer.generate_presigned_url(
            operation, Params={"Bucket": self._bucket, **parameters}, ExpiresIn=_SIGNED_SECONDS
        )
        return self._exchange.get(str(url), headers=headers, redirects=0)

    def _error(self, answer: Answer, path: str) -> FreeholdError:
        """By S3's error code, else by the status."""
        trouble = answer.trouble()
        what = f"{path} of {self._origin}" if path else self._origin
        elsewhere = answer.headers.get("x-amz-bucket-region", "")
        if 300 <= trouble.status < 400 or trouble.code in {"PermanentRedirect", "AuthorizationHeaderMalformed"}:
            where = f": it is in {self._exchange.clean(elsewhere)}" if elsewhere else ""
            return SourceBroken(f"The bucket {self._bucket} is in another region{where}. Give that.", field="region")
        if trouble.code == "NoSuchBucket":
            return SourceGone(f"There is no bucket {self._bucket}.", field="bucket")
        if trouble.code in _BUSY:
            return SourceUnavailable(f"S3 is busy ({trouble.code}).", retry_after_s=trouble.retry_after_s)
        if trouble.code in _REMEDIES:
            return SourceUnauthorized(f"The endpoint {_REMEDIES[trouble.code]} ({trouble.code}, for {what}).")
        return trouble.error(what)


def _signer(*, region: str, endpoint_url: str, keys: S3Keys) -> Any:
    """A client that is only asked for signed URLs. Nothing of the machine's own AWS configuration counts. Checksums are
    off because they would add headers that must be signed."""
    return boto3.session.Session().client(
        "s3",
        region_name=region,
        endpoint_url=endpoint_url or None,
        aws_access_key_id=keys.access_key_id or _NOBODY,
        aws_secret_access_key=keys.secret_access_key or _NOBODY,
        aws_session_token=keys.session_token or None,
        config=Config(
            signature_version="s3v4" if keys.access_key_id else UNSIGNED,
            s3={"addressing_style": "path" if endpoint_url else "virtual"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            ignore_configured_endpoint_urls=True,
        ),
    )


def s3_source(client: httpx.Client, source: Mapping[str, str], credentials: Mapping[str, str]) -> S3Source:
    """As registry.sources.configured asks for it, by name. Raises as S3Source."""
    return S3Source(
        client,
        bucket=source["bucket"],
        prefix=source.get("prefix", ""),
        region=source.get("region") or "us-east-1",
        endpoint_url=source.get("endpoint_url", ""),
        keys=S3Keys(
            access_key_id=credentials.get("access_key_id", ""),
            secret_access_key=credentials.get("secret_access_key", ""),
            session_token=credentials.get("session_token", ""),
        ),
    )
