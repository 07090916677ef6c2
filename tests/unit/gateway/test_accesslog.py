"""The access log."""

from __future__ import annotations

import io
import json

from freehold.gateway.accesslog import AccessLine, AccessLog


class Closed(io.BytesIO):
    """A log that nobody reads any more."""

    def write(self, _: object) -> int:
        """Fails."""
        raise BrokenPipeError


def line(path: str) -> AccessLine:
    return AccessLine(at=1.5, method="GET", path=path, status=200)


def test_a_line_of_json_a_request() -> None:
    output = io.BytesIO()
    log = AccessLog(output)
    log.add(line("/a"))
    log.add(line("/b"))
    log.flush()
    assert output.getvalue().endswith(b"\n")
    written = [json.loads(each) for each in output.getvalue().splitlines()]
    assert [each["path"] for each in written] == ["/a", "/b"]
    assert written[0]["event"] == "request"


def test_a_log_that_cannot_be_written_fails_nobodys_request() -> None:
    log = AccessLog(Closed())
    for _ in range(1_000):
        log.add(line("/a"))
    log.flush()
