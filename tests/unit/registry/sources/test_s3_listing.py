"""Pages of S3 listings, from S3 and from somebody who is not."""

from __future__ import annotations

import pytest

from freehold.registry.sources.errors import SourceBroken
from freehold.registry.sources.s3_listing import Page, S3Object, parse_page

HEAD = b'<?xml version="1.0" encoding="UTF-8"?>\n'
ROOT = b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">%s</ListBucketResult>'
CONTENTS = (
    b"<Contents><Key>%s</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;ab-2&quot;</ETag>"
    b"<Size>5</Size><Owner><ID>x</ID></Owner><StorageClass>STANDARD</StorageClass></Contents>"
)


def test_a_page_is_read() -> None:
    body = HEAD + ROOT % (b"<IsTruncated>false</IsTruncated><Name>b</Name>" + CONTENTS % b"a&amp;b")
    assert parse_page(body) == Page((S3Object("a&b", 5, '"ab-2"'),), "")


def test_encoded_keys_and_the_next_page_are_read() -> None:
    top = b"<IsTruncated>true</IsTruncated><NextContinuationToken>t+/=</NextContinuationToken>"
    body = ROOT % (CONTENTS % b"a+b%2Bc%0A" + top + b"<EncodingType>url</EncodingType>")
    assert parse_page(body) == Page((S3Object("a b+c\n", 5, '"ab-2"'),), "t+/=")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"<html></html>",
        ROOT % b"<Contents><Key>a</Key></Contents>",
        ROOT % b"<Contents><Size>5</Size></Contents>",
        ROOT % b"<Contents><Key>a</Key><Size>-5</Size></Contents>",
        ROOT % b"<IsTruncated>true</IsTruncated>",
        ROOT % (b"<a>" * 10 + b"</a>" * 10),
        ROOT % (b"<Name>" + b"x" * 10_000 + b"</Name>"),
        b'<!DOCTYPE x [<!ENTITY a "aaaa">]>' + ROOT % (CONTENTS % b"&a;"),
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd">' + ROOT % b"",
        ROOT % (CONTENTS % b"\xff"),
        (ROOT % (CONTENTS % b"a"))[:-5],
    ],
)
def test_what_is_no_listing_is_refused(body: bytes) -> None:
    with pytest.raises(SourceBroken, match="does not answer as S3 does"):
        parse_page(body)
