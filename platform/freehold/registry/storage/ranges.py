"""A file that lies behind HTTP: seekable, read by ranges. Knows no boto3, so that anything with ranges can be read so.

A zip's directory is at its end and a weight file's header at its beginning, while hashing goes from one end to the
other: so the first read at a place asks for little, and each that follows on for twice as much.
"""

from __future__ import annotations

import errno
import io
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK: Final = 1024 * 1024
_LARGEST: Final = 64 * 1024 * 1024
_ATTEMPTS: Final = 5


class Body(Protocol):
    """The bytes of one range, in order."""

    def read(self, amount: int) -> bytes:
        """Up to `amount` bytes; none at the end. Raises OSError where the connection breaks."""

    def close(self) -> None:
        """Gives the connection up."""


class RangeReader(io.RawIOBase):
    """`fetch(first, last)` opens the range with both ends included. A broken connection is opened again where it
    broke; after five breaks without a byte in between: OSError."""

    def __init__(self, fetch: Callable[[int, int], Body], size: int) -> None:
        super().__init__()
        self._fetch, self._size = fetch, size
        self._position = 0
        self._body: Body | None = None
        self._at, self._end = 0, 0  # where the open body is, and where it ends
        self._window = BLOCK

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """As io.IOBase."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As io.IOBase. Costs nothing until the next read."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"cannot seek to {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """As io.RawIOBase: at least one byte, unless it is the end."""
        wanted = min(len(buffer), self._size - self._position)
        if wanted <= 0:
            return 0
        chunk = self._read(wanted)
        buffer[: len(chunk)] = chunk
        self._position += len(chunk)
        self._at = self._position
        return len(chunk)

    def close(self) -> None:
        """Gives the connection up."""
        self._drop()
        super().close()

    def _read(self, wanted: int) -> bytes:
        problem: OSError | None = None
        for _ in range(_ATTEMPTS):
            try:
                body = self._open(wanted)
                chunk = body.read(min(wanted, self._end - self._position))
            except FileNotFoundError:
                raise
            except OSError as error:
                problem, chunk = error, b""
            if chunk:
                return chunk
            self._drop()
        raise problem or OSError(errno.EIO, f"the content ended {self._size - self._position} bytes early")

    def _open(self, wanted: int) -> Body:
        if self._body is not None and self._at == self._position < self._end:
            return self._body
        follows_on = self._position == self._end and self._end > 0
        self._drop()
        self._window = min(self._window * 2, _LARGEST) if follows_on else max(BLOCK, min(wanted, _LARGEST))
        self._at, self._end = self._position, min(self._position + self._window, self._size)
        self._body = self._fetch(self._at, self._end - 1)
        return self._body

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None
