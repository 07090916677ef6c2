"""A file's bytes from an offset, out of an answer to a range request (RFC 9110, section 14). Used by hub.py and s3.py.

Servers differ: some ignore ranges and send everything, some cut, some send another version. Whoever reads on after a
cut must never splice two contents; what remains possible is caught by the hash.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from freehold.registry.sources.errors import SourceBroken, SourceChanged, SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from freehold.registry.sources.base import SourceFile
    from freehold.registry.sources.exchange import Answer

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


def range_headers(offset: int) -> dict[str, str]:
    """What to send for the bytes from `offset` on."""
    return {"Range": f"bytes={offset}-"} if offset else {}


def content(answer: Answer, file: SourceFile, offset: int) -> Iterator[bytes]:
    """Exactly file.size - offset bytes of `answer`, whose status is 200 or 206.

    A 200 to a range request is read from its beginning and the first `offset` bytes are dropped. Raises SourceChanged
    where headers or length show another content, SourceUnavailable where it ends early, SourceBroken.
    """
    return _cut(answer, file, skip=_bytes_to_skip(answer, file, offset), left=file.size - offset)


def _cut(answer: Answer, file: SourceFile, *, skip: int, left: int) -> Iterator[bytes]:
    for chunk in answer.chunks():
        if skip >= len(chunk):
            skip -= len(chunk)
            continue
        useful = chunk[skip:] if skip else chunk
        skip = 0
        if len(useful) > left:
            raise _changed(file)
        left -= len(useful)
        yield useful
    if left:
        raise SourceUnavailable(
            f"{answer.host} ended {file.path} {left} bytes early. It is worth trying again.", field=file.path
        )


def _bytes_to_skip(answer: Answer, file: SourceFile, offset: int) -> int:
    _check_etag(answer, file)
    length = answer.headers.get("Content-Length", "")
    if answer.status == 200:
        if length.isascii() and length.isdigit() and int(length[:19]) != file.size:
            raise _changed(file)
        return offset
    if answer.status != 206 or not offset:
        raise SourceBroken(f"{answer.host} answers HTTP {answer.status} when asked for {file.path}.", field=file.path)
    found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
    if found is None or int(found[1]) != offset:
        raise SourceBroken(
            f"{answer.host} sends another part of {file.path} than it was asked for, or does not say which.",
            field=file.path,
        )
    if found[3] not in {"*", str(file.size)} or (found[3] == "*" and int(found[2]) >= file.size):
        raise _changed(file)
    return 0


def _check_etag(answer: Answer, file: SourceFile) -> None:
    etag = answer.headers.get("ETag")
    if file.etag and etag and _opaque(etag) != _opaque(file.etag):
        raise _changed(file)


def _opaque(etag: str) -> str:
    return etag.strip().removeprefix("W/").strip('"')


def _changed(file: SourceFile) -> SourceChanged:
    return SourceChanged(
        f"{file.path} has changed at the source since it was listed. Start the import again.", field=file.path
    )
