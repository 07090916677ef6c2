"""A small hub of somebody else, over tests.fakes.origin: a commit, a tree in pages, `resolve` that leads to a CDN."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from tests.fakes.origin import Origin, Reply, Seen, ranged

COMMIT = "c" * 40


@dataclass
class ForeignHub:
    """A hub with one model at one commit. `cdn` serves what is LFS; with `token`, nothing is given without it."""

    at: Origin
    cdn: Origin
    files: dict[str, bytes]
    lfs: frozenset[str]
    repo: str = "acme/tiny"
    token: str = ""
    page: int = 2
    cdn_host: str = ""
    extra: list[dict[str, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        api = f"/api/models/{self.repo}"
        self.at.answers(f"{api}/revision/main", self._info)
        self.at.answers(f"{api}/revision/{COMMIT}", self._info)
        self.at.answers(f"{api}/tree/{COMMIT}", self._tree)
        for path in self.files:
            self.at.answers(f"/{self.repo}/resolve/{COMMIT}/{path}", self._resolve)
            self.cdn.answers(f"/cdn/{path}", self._content)

    def sha256(self, path: str) -> str:
        """Of a file."""
        return hashlib.sha256(self.files[path]).hexdigest()

    def git_oid(self, path: str) -> str:
        """Of a file, as Git names it."""
        content = self.files[path]
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()

    def _refused(self, seen: Seen) -> Reply | None:
        if self.token and seen.headers.get("authorization") != f"Bearer {self.token}":
            headers = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
            return Reply(401, b'{"error": "Repository not found"}', headers)
        return None

    def _info(self, seen: Seen) -> Reply:
        return self._refused(seen) or Reply(200, json.dumps({"id": self.repo, "sha": COMMIT}).encode())

    def _tree(self, seen: Seen) -> Reply:
        refused = self._refused(seen)
        if refused:
            return refused
        entries = [self._entry(path) for path in sorted(self.files)] + self.extra
        start = int(parse_qs(seen.query).get("cursor", ["0"])[0])
        headers = {}
        if start + self.page < len(entries):
            following = self.at.url(f"{seen.path}?recursive=true&cursor={start + self.page}", host=_host(seen))
            headers["Link"] = f'<{following}>; rel="next"'
        return Reply(200, json.dumps(entries[start : start + self.page]).encode(), headers)

    def _entry(self, path: str) -> dict[str, object]:
        entry: dict[str, object] = {"type": "file", "path": path, "size": len(self.files[path])}
        if path in self.lfs:
            size = len(self.files[path])
            return entry | {"oid": "0" * 40, "lfs": {"oid": self.sha256(path), "size": size, "pointerSize": 134}}
        return entry | {"oid": self.git_oid(path)}

    def _resolve(self, seen: Seen) -> Reply:
        refused = self._refused(seen)
        if refused:
            return refused
        path = seen.path.split(f"/resolve/{COMMIT}/", 1)[1]
        if path not in self.lfs:
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{self.git_oid(path)}"'}
            return ranged(seen, self.files[path], headers)
        headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Size": str(len(self.files[path])),
            "X-Linked-ETag": f'"{self.sha256(path)}"',
            "Location": self.cdn.url(f"/cdn/{path}?signature=abc", host=self.cdn_host),
        }
        return Reply(302, b"", headers)

    def _content(self, seen: Seen) -> Reply:
        path = seen.path.removeprefix("/cdn/")
        return ranged(seen, self.files[path], {"ETag": '"whatever-the-cdn-says"'})


def _host(seen: Seen) -> str:
    return seen.headers["host"].partition(":")[0]
