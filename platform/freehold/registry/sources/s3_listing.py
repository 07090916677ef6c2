"""Reads a page of S3's ListObjectsV2. Used by s3.py.

XML from a stranger: by expat, without document types (so no entities, neither bombs nor files of ours), of bounded
depth and length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_plus
from xml.parsers import expat

from freehold.registry.sources.errors import SourceBroken

_DEPTH: Final = 6
_TEXT = 8192
_ROOT = "ListBucketResult"


@dataclass(frozen=True)
class S3Object:
    """An object as listed; etag with its quotes."""

    key: str
    size: int
    etag: str


@dataclass(frozen=True)
class Page:
    """Objects, and the token of the next page ("" on the last)."""

    objects: tuple[S3Object, ...]
    following: str


def parse_page(body: bytes) -> Page:
    """A page of ListObjectsV2. Raises SourceBroken for what is none."""
    reader = _Reader()
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(body, True)
        return reader.page()
    except (expat.ExpatError, UnicodeError, ValueError) as error:
        raise SourceBroken("The endpoint does not answer as S3 does. Check its address and the bucket.") from error


class _Reader:
    def __init__(self) -> None:
        self._path: list[str] = []
        self._words = ""
        self._object: dict[str, str] = {}
        self._top: dict[str, str] = {}
        self._objects: list[dict[str, str]] = []

    def doctype(self, *_: object) -> None:
        raise ValueError("a document type")

    def start(self, name: str, _: dict[str, str]) -> None:
        self._path.append(name)
        if len(self._path) > _DEPTH or self._path[0] != _ROOT:
            raise ValueError("not a listing")
        self._words = ""
        if self._path == [_ROOT, "Contents"]:
            self._object = {}

    def text(self, data: str) -> None:
        self._words += data
        if len(self._words) > _TEXT:
            raise ValueError("too long a text")

    def end(self, name: str) -> None:
        if len(self._path) == 3 and self._path[1] == "Contents":
            self._object[name] = self._words
        elif self._path == [_ROOT, "Contents"]:
            self._objects.append(self._object)
        elif len(self._path) == 2:
            self._top[name] = self._words
        self._path.pop()
        self._words = ""

    def page(self) -> Page:
        encoded = self._top.get("EncodingType", "").strip() == "url"
        objects = tuple(_object(fields, encoded=encoded) for fields in self._objects)
        truncated = self._top.get("IsTruncated", "").strip() == "true"
        following = self._top.get("NextContinuationToken", "").strip()
        if truncated and not following:
            raise ValueError("more to come, but not where")
        return Page(objects, following if truncated else "")


def _object(fields: dict[str, str], *, encoded: bool) -> S3Object:
    key, size = fields.get("Key", ""), fields.get("Size", "").strip()
    if not key or not (size.isascii() and size.isdigit() and len(size) <= 18):
        raise ValueError("an object without key or size")
    return S3Object(unquote_plus(key) if encoded else key, int(size), fields.get("ETag", "").strip())
