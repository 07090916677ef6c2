"""A link opens what it was made for and nothing else."""

from __future__ import annotations

import uuid

import pytest

from freehold.common.errors import PermissionDenied
from freehold.registry.content_links import (
    SECONDS,
    BlobLink,
    Direction,
    UploadLink,
    download_sign,
    download_verify,
    upload_sign,
    upload_verify,
)

ORIGIN = "https://hub.example"
UPLOAD = UploadLink(tenant_id=uuid.uuid4(), upload_id=uuid.uuid4(), sha256="a" * 64, size=10**12, part=3)
DOWNLOAD = BlobLink(tenant_id=uuid.uuid4(), sha256="b" * 64, size=7, filename="weights ü.safetensors")


def _path(url: str) -> str:
    assert url.startswith(ORIGIN)
    return url.removeprefix(ORIGIN)


def test_a_link_says_what_it_was_made_for() -> None:
    assert upload_verify(path=_path(upload_sign(origin=ORIGIN, link=UPLOAD))) == UPLOAD
    assert download_verify(path=_path(download_sign(origin=ORIGIN, link=DOWNLOAD))) == DOWNLOAD


def test_one_direction_never_passes_for_the_other() -> None:
    with pytest.raises(PermissionDenied, match="not a valid download link"):
        download_verify(path=_path(upload_sign(origin=ORIGIN, link=UPLOAD)))
    with pytest.raises(PermissionDenied, match="not a valid upload link"):
        upload_verify(path=_path(download_sign(origin=ORIGIN, link=DOWNLOAD)))


@pytest.mark.parametrize("path", ["/blobs/", "/blobs/a:b:c", "/blobs/WzFd:1xVgix:AAAA"])
def test_a_forged_link_opens_nothing(path: str) -> None:
    with pytest.raises(PermissionDenied):
        upload_verify(path=path)


def test_an_expired_link_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    url = upload_sign(origin=ORIGIN, link=UPLOAD)
    with monkeypatch.context() as patch:
        patch.setattr("django.core.signing.time.time", lambda: 4_000_000_000 + SECONDS[Direction.UPLOAD])
        with pytest.raises(PermissionDenied, match="Start the upload again"):
            upload_verify(path=_path(url))
