"""Speaks LFS by hand where the real client is too polite for a test."""

from __future__ import annotations

import hashlib
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.integration.hub.live import Customer, Web


def begin(
    web: Web,
    customer: Customer,
    repo: str,
    *,
    sha256: str,
    size: int,
    transfers: tuple[str, ...] = ("basic", "multipart"),
) -> dict[str, Any]:
    """The hub's answer for one object of a batch."""
    wanted = {"operation": "upload", "transfers": list(transfers), "objects": [{"oid": sha256, "size": size}]}
    answer = httpx.post(
        f"{web.url}/{repo}.git/info/lfs/objects/batch",
        json=wanted,
        headers={"Authorization": f"Bearer {customer.secret}"},
    )
    answer.raise_for_status()
    item: dict[str, Any] = answer.json()["objects"][0]
    return item


def part_urls(item: dict[str, Any]) -> list[str]:
    """Where each part goes, in order."""
    header = item["actions"]["upload"]["header"]
    return [header[number] for number in sorted((n for n in header if n.isdigit()), key=int)]


def finish(item: dict[str, Any], etags: list[str], *, oid: str = "") -> httpx.Response:
    """The POST that ends an upload in parts."""
    parts = [{"partNumber": number, "etag": etag} for number, etag in enumerate(etags, 1)]
    document = {"oid": oid or item["oid"], "parts": parts}
    return httpx.post(item["actions"]["upload"]["href"], json=document, timeout=60)


def half_put(url: str, *, length: int, content: bytes) -> socket.socket:
    """A PUT that has promised `length` bytes and sent only `content`. Close it to break it off."""
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=60)
    head = f"PUT {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {length}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


def sha256_of(content: bytes) -> str:
    """Hex."""
    return hashlib.sha256(content).hexdigest()
