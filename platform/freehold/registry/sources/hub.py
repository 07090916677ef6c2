"""Another hub that speaks the Hugging Face Hub's protocol, as a source: huggingface.co, a mirror, another Freehold.

A branch or tag is resolved to a commit first; everything after names that commit, so that an import never mixes two
versions. Bytes come from `resolve`, which often redirects to a CDN of another host; the token does not go there.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote

import msgspec

from freehold.common.errors import InvalidInput
from freehold.registry.sources.base import SourceFile, check_count, check_listing_time, listing_of
from freehold.registry.sources.bodies import content, range_headers
from freehold.registry.sources.errors import SourceBroken, SourceChanged, SourceGone, SourceUnauthorized
from freehold.registry.sources.exchange import Exchange
from freehold.registry.sources.guard import parse_url, port_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from freehold.common.errors import FreeholdError
    from freehold.registry.sources.base import Listing
    from freehold.registry.sources.exchange import Answer

_DOCUMENT_BYTES: Final = 32 * 1024 * 1024
_PAGES = 2_000
_ENTRIES = 200_000  # folders too
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9_][\w.-]{0,95})?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")
_LINK_CHARACTERS = 32 * 1024
_LINKS = re.compile(r",\s*(?=<)")
_NEXT = re.compile(r'\s*<([^<>]{1,8192})>\s*;[^<]*?rel="?next"?')  # matched at the start of each link: no backtracking


class _Info(msgspec.Struct):
    sha: str


class _Lfs(msgspec.Struct):
    oid: str = ""
    size: int = -1


class _Entry(msgspec.Struct):
    type: str
    path: str
    size: int = -1
    oid: str = ""
    lfs: _Lfs | None = None
    sha256: str | None = None  # Freehold's own, for every file


_Document = TypeVar("_Document")


class HubSource:
    """A model at a revision of a hub (base.Source)."""

    def __init__(self, client: httpx.Client, *, url: str, repo: str, revision: str = "main", token: str = "") -> None:
        """`url`: the hub's, such as https://huggingface.co. `revision`: branch, tag or commit; give the pin of a
        listing to go on with that. Raises InvalidInput, OutboundRefused. Closes `client` with itself."""
        if not _REPO.fullmatch(repo) or ".." in repo:
            raise InvalidInput("A model is named owner/name, such as Qwen/Qwen3-0.6B.", field="repo")
        if not 0 < len(revision) <= 255 or not revision.isprintable():
            raise InvalidInput("A revision is the name of a branch or tag, or a commit.", field="revision")
        if token and not _TOKEN.fullmatch(token):
            raise InvalidInput("The token holds blanks or characters that no token has. Copy it anew.", field="token")
        base = parse_url(url.strip())
        if base.query or base.fragment:
            raise InvalidInput("The hub's address has no query: write https://host.", field="url")
        self._base = str(base).rstrip("/")
        self._origin = (base.scheme, base.raw_host, port_of(base))
        self._repo = repo
        self._revision = revision
        self._commit = revision if _COMMIT.fullmatch(revision) else ""
        self._authorization = f"Bearer {token}" if token else ""
        self._client = client
        self._exchange = Exchange(client, secrets=(token,))
        self._what = f"model {repo} at {revision}"

    def close(self) -> None:
        """Gives connections back."""
        self._client.close()

    def describe(self) -> Listing:
        """The files of the revision; git_oid is given for those that are not LFS."""
        self._commit = self._resolved(self._revision)
        files = (_file(entry, self._base) for entry in self._tree(self._commit) if entry.type == "file")
        return listing_of(origin=f"{self._base}/{self._repo}", pin=self._commit, files=files)

    @contextmanager
    def open(self, file: SourceFile, *, offset: int = 0) -> Iterator[Iterator[bytes]]:
        """See base.Source."""
        if not 0 <= offset <= file.size:
            raise InvalidInput(f"{file.path} has {file.size} bytes: there is nothing at {offset}.", field="offset")
        if offset and offset == file.size:
            yield iter(())
            return
        self._commit = self._commit or self._resolved(self._revision)
        path = f"/{self._repo}/resolve/{self._commit}/{quote(file.path)}"
        with self._get(self._base + path, headers=range_headers(offset)) as answer:
            if answer.status not in {200, 206}:
                raise self._error(answer, file.path)
            _check_metadata(answer, file, self._commit)
            yield content(answer, file, offset)

    def _resolved(self, revision: str) -> str:
        url = f"{self._base}/api/models/{self._repo}/revision/{quote(revision, safe='')}"
        commit = self._document(url, _Info)[0].sha.lower()
        if not _COMMIT.fullmatch(commit):
            raise SourceBroken(f"{self._base} names no commit for the {self._what}. Is it a Hugging Face hub?")
        return commit

    def _tree(self, commit: str) -> Iterator[_Entry]:
        url = f"{self._base}/api/models/{self._repo}/tree/{commit}?recursive=true&expand=false"
        seen: set[str] = set()
        count, listed, begun = 0, 0, time.monotonic()
        while url:
            check_listing_time(begun, self._base)
            if url in seen or len(seen) >= _PAGES:
                raise SourceBroken(f"The list of files that {self._base} gives of the {self._what} does not end.")
            seen.add(url)
            entries, following = self._document(url, list[_Entry])
            count += sum(entry.type == "file" for entry in entries)
            check_count(count, f"{self._base}/{self._repo}")
            listed += len(entries)
            if listed > _ENTRIES:
                raise SourceBroken(f"The list of files that {self._base} gives of the {self._what} does not end.")
            yield from entries
            url = following

    def _document(self, url: str, kind: type[_Document]) -> tuple[_Document, str]:
        """A JSON answer and the address of the next page, "" where there is none."""
        with self._get(url, headers={"Accept": "application/json"}) as answer:
            if answer.status != 200:
                raise self._error(answer, "")
            body = answer.document(most=_DOCUMENT_BYTES)
            following = self._following(answer)
        try:
            return msgspec.json.decode(body, type=kind), following
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise SourceBroken(
                f"{self._base} does not answer as a Hugging Face hub does: {self._exchange.clean(str(error))}. "
                "Check the address."
            ) from error

    def _following(self, answer: Answer) -> str:
        links = answer.headers.get("Link", "")
        found = next((match for link in _LINKS.split(links[:_LINK_CHARACTERS]) if (match := _NEXT.match(link))), None)
        if found is None:
            return ""
        url = parse_url(found[1], base=answer.url)
        if (url.scheme, url.raw_host, port_of(url)) != self._origin:
            raise SourceBroken(f"{self._base} continues its list of files at another address, {url.host}.")
        return str(url)

    def _get(self, url: str, *, headers: dict[str, str]) -> Answer:
        return self._exchange.get(url, headers=headers, authorization=self._authorization)

    def _error(self, answer: Answer, path: str) -> FreeholdError:
        """By what the hub's X-Error-Code says, else by the status."""
        trouble = answer.trouble()
        what = f"{path} of the {self._what}" if path else self._what
        if trouble.code == "GatedRepo":
            with_token = "of your token" if self._authorization else "and give its token"
            return SourceUnauthorized(
                f"{self._repo} is gated: accept its terms at {self._base}/{self._repo} with the account {with_token}, "
                "then import again."
            )
        if answer.host.encode() != self._origin[1] or answer.hops:
            return trouble.error(what)  # the storage behind the hub: no matter of the token
        if trouble.status == 401 and not self._authorization:
            return SourceUnauthorized(f"{self._repo} is private or does not exist: give a token that may read it.")
        if trouble.status == 401:
            return SourceUnauthorized(
                f"{self._base} does not take the token for {self._repo}: it is wrong or expired, or may not read this "
                "model. Make a new one there, and import again."
            )
        if trouble.code == "RepoNotFound":
            seen = "that the token may see" if self._authorization else "that everybody may see"
            return SourceGone(f"{self._base} has no model {self._repo} {seen}. Check the name, or give another token.")
        if trouble.code == "RevisionNotFound":
            return SourceGone(f"{self._repo} has no branch, tag or commit {self._revision!r}.", field="revision")
        return trouble.error(what)


def _file(entry: _Entry, origin: str) -> SourceFile:
    lfs = entry.lfs
    size = entry.size if lfs is None or lfs.size < 0 else lfs.size
    sha256 = entry.sha256 if lfs is None else lfs.oid.removeprefix("sha256:")
    git_oid = entry.oid if lfs is None else None
    if size < 0 or (lfs is not None and not _SHA256.fullmatch(sha256 or "")):
        raise SourceBroken(f"{origin} lists {entry.path[:200]!r} without its size or hash.")
    return SourceFile(
        path=entry.path,
        size=size,
        sha256=sha256 if _SHA256.fullmatch(sha256 or "") else None,
        git_oid=git_oid if _COMMIT.fullmatch(git_oid or "") else None,
    )


def _check_metadata(answer: Answer, file: SourceFile, commit: str) -> None:
    """What `resolve` says of the file, on the way or at the end: X-Repo-Commit, X-Linked-Size, X-Linked-ETag. An ETag
    proves nothing here: a CDN has its own."""
    for headers in (*answer.hops, answer.headers):
        same = headers.get("X-Repo-Commit", commit) == commit
        same = same and headers.get("X-Linked-Size", str(file.size)) == str(file.size)
        linked = headers.get("X-Linked-ETag", "").removeprefix("W/").strip('"')
        known = {file.sha256, file.git_oid} - {None}
        if known and (_SHA256.fullmatch(linked) or _COMMIT.fullmatch(linked)):
            same = same and linked in known
        if not same:
            raise SourceChanged(f"{file.path} is not what the hub listed. Start the import again.", field=file.path)
