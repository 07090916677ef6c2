"""The peer of benchmarks.transfer: a file server that speaks just enough of the Hub for the same client and does
nothing else. No hash, no database, no permission, no sync to disk; PUT is read → write, GET is sendfile(2).

Run as a process of its own: `python -m benchmarks.bare_hub PORT FOLDER`.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

_COMMIT: Final = "0" * 40
_BUFFER: Final = 1024 * 1024


class Hub(BaseHTTPRequestHandler):
    """One model whose large files lie in `folder`, by hash."""

    protocol_version = "HTTP/1.1"
    folder: Path
    files: dict[str, tuple[str, int]] = {}

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Says nothing."""

    def do_POST(self) -> None:
        """Everything of an upload but its bytes."""
        path, body = urlsplit(self.path).path, self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path.endswith("/objects/batch"):
            objects = [
                {**item, "actions": {"upload": {"href": f"{self._origin()}/blob/{item['oid']}"}}}
                for item in json.loads(body)["objects"]
            ]
            self._json({"transfer": "basic", "objects": objects})
        elif "/preupload/" in path:
            files = [{"path": f["path"], "uploadMode": "lfs", "shouldIgnore": False} for f in json.loads(body)["files"]]
            self._json({"files": files})
        elif "/commit/" in path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "lfsFile":
                    self.files[line["value"]["path"]] = (line["value"]["oid"], line["value"]["size"])
            self._json({"success": True, "commitOid": _COMMIT, "commitUrl": f"{self._origin()}/a/b/commit/{_COMMIT}"})
        else:
            self._json({"url": f"{self._origin()}/acme/bench"})

    def do_PUT(self) -> None:
        """A blob."""
        left, buffer = int(self.headers["Content-Length"]), memoryview(bytearray(_BUFFER))
        with (self.folder / self.path.rpartition("/")[2]).open("wb", buffering=0) as file:
            while left and (count := self.rfile.readinto(buffer[: min(left, _BUFFER)])):
                file.write(buffer[:count])
                left -= count
        self._json({})

    def do_HEAD(self) -> None:
        """Metadata of a file."""
        sha256, size = self.files[urlsplit(self.path).path.rpartition("/")[2]]
        self.send_response(200)
        for name, value in {
            "Content-Length": str(size), "ETag": f'"{sha256}"', "X-Repo-Commit": _COMMIT,
            "X-Linked-ETag": f'"{sha256}"', "X-Linked-Size": str(size),
        }.items():  # fmt: skip
            self.send_header(name, value)
        self.end_headers()

    def do_GET(self) -> None:
        """A file's bytes, or the model's list of files."""
        path = urlsplit(self.path).path
        if not path.startswith("/acme/"):
            siblings = [{"rfilename": name} for name in self.files]
            self._json({"id": "acme/bench", "sha": _COMMIT, "siblings": siblings, "private": True})
            return
        sha256, size = self.files[path.rpartition("/")[2]]
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.send_header("ETag", f'"{sha256}"')
        self.end_headers()
        with (self.folder / sha256).open("rb") as file:
            self.connection.sendfile(file)

    def _origin(self) -> str:
        return f"http://{self.headers['Host']}"

    def _json(self, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serves until it is ended."""
    Hub.folder = Path(sys.argv[2])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Hub).serve_forever()


if __name__ == "__main__":
    main()
