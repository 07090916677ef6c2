"""Bytes on their way to a store that wants them whole: gathered in a bounded piece of memory and beyond that on disk
(TMPDIR), hashed as they come. Used by the writers of s3.py."""

from __future__ import annotations

import hashlib
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Final, cast

from freehold.common.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

_IN_MEMORY: Final = 4 * 1024 * 1024


class Spool:
    """A Writer of exactly `size` bytes. `send(file, sha256, md5)` stores them at commit, both hashes as digests, and
    returns the etag. With `sha256`, nothing else is sent."""

    def __init__(self, *, size: int, send: Callable[[BinaryIO, bytes, bytes], str], sha256: str = "") -> None:
        self._size, self._send, self._declared = size, send, sha256
        self._file = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed by abort
        self._sha256, self._md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        self._written = 0

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """As Writer."""
        self._written += len(chunk)
        if self._written > self._size:
            raise Refused(f"More than the declared {self._size} bytes came. Upload the file again.")
        self._sha256.update(chunk)
        if not self._declared:
            self._md5.update(chunk)
        self._file.write(chunk)

    def commit(self) -> str:
        """As Writer."""
        try:
            if self._written != self._size:
                raise Refused(f"{self._written} bytes came, not the declared {self._size}. Upload the file again.")
            if self._declared not in {"", self._sha256.hexdigest()}:
                raise differs(self._sha256.hexdigest(), self._declared)
            self._file.seek(0)
            return self._send(cast("BinaryIO", self._file), self._sha256.digest(), self._md5.digest())
        finally:
            self.abort()

    def abort(self) -> None:
        """As Writer."""
        self._file.close()


def differs(found: str, declared: str) -> Refused:
    """The refusal of content that is another than its sha256 says."""
    return Refused(
        f"The content has the sha256 {found}, not the declared {declared}: "
        "it was changed on its way, or while it was read. Upload the file again."
    )
