"""Brings one revision's files from the hub to a folder, verified: what a replica does before its engine starts.

Runs as `python -I fetcher.py` (child of the local runtime, or init container), so it uses the standard library alone
and takes everything from the environment:

    FREEHOLD_FETCH_URL            origin of the hub, http(s)://host:port
    FREEHOLD_FETCH_TOKEN          fetch token of the revision
    FREEHOLD_FETCH_TOKEN_FILE     or a file that holds it, read for every request
    FREEHOLD_FETCH_REPO           tenant/name
    FREEHOLD_FETCH_REPO_FILE      or a file that holds it: a model's name may change under a pod that does not
    FREEHOLD_FETCH_REVISION       commit id
    FREEHOLD_FETCH_TARGET         the folder to make; complete or absent, never in between
    FREEHOLD_FETCH_DIGEST         optional: the revision's digest, which must then be that of the files
    FREEHOLD_FETCH_TOKEN_SECONDS  optional: how long a refused token's file may take to change (900)
    FREEHOLD_TERMINATION_LOG      optional: a file that gets the reason of a failure, for the pod's status

A token in a file can be renewed while a long fetch goes on: a refused one is waited out until the file holds another. A
folder that is there already is taken by its manifest, without asking the hub: by its digest alone where one is given,
since commits of the same files share it. What came before an attempt failed is kept, verified file by file, in
<target>.partial-<digest>, and the next attempt goes on from there. Several fetchers of one folder wait for each other.
Exit codes: see Exit; the reason is one line on stderr, where a long fetch also says how far it is. Nothing is written
outside of the target's folder.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import http.client
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from enum import IntEnum
from pathlib import Path, PurePosixPath
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import quote, urljoin, urlsplit

MANIFEST = ".freehold-manifest.json"
INCOMING = ".freehold-incoming"  # inside of a partial folder: files on their way, by their sha256

_CHUNK = 1024 * 1024
_TIMEOUT_SECONDS = 60
_ATTEMPTS = 5
_REDIRECTS = 5
_TOKENS = 3  # that may be refused for one answer
_TOKEN_SECONDS = 900
_TOKEN_POLL_SECONDS = 2
_PROGRESS_SECONDS = 10
_P = ParamSpec("_P")
_R = TypeVar("_R")


class Exit(IntEnum):
    """How the process ends."""

    OK = 0
    MISCONFIGURED = 2
    UNAUTHORIZED = 3  # also: the token has expired
    NOT_FOUND = 4
    MISMATCH = 5  # content, size or digest is not what the revision says
    DISK_FULL = 6
    NETWORK = 7


class Failure(Exception):
    """Why nothing was fetched, with the exit code that says so."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Interrupted(Exception):
    """The connection broke or the hub is not well: worth another attempt."""


class _TokenRefused(Failure):
    """The hub does not take this token: it may take the next."""

    def __init__(self, message: str, token: str) -> None:
        super().__init__(Exit.UNAUTHORIZED, message)
        self.token = token


@dataclass(frozen=True)
class Request:
    """What to fetch, from where, to where."""

    url: str
    token: str
    repo: str
    revision: str
    target: Path
    digest: str = ""
    token_file: Path | None = None
    token_seconds: float = _TOKEN_SECONDS

    def current_token(self) -> str:
        """What to show the hub now; empty where the file is not there yet."""
        if self.token_file is None:
            return self.token
        try:
            return self.token_file.read_text("ascii").strip()
        except (OSError, ValueError):
            return ""


@dataclass(frozen=True)
class File:
    """A file of the revision."""

    path: str
    size: int
    sha256: str


def main() -> int:
    """The program. Returns the exit code."""
    os.umask(0o022)
    try:
        fetch(request_of(os.environ))
    except Failure as failure:
        _warn(str(failure))
        _report(str(failure), os.environ.get("FREEHOLD_TERMINATION_LOG", ""))
        return failure.code
    return Exit.OK


def request_of(environ: Mapping[str, str]) -> Request:
    """The request that an environment describes. Raises Failure."""
    token_file = environ.get("FREEHOLD_FETCH_TOKEN_FILE", "")
    environ = {"FREEHOLD_FETCH_REPO": _content(environ.get("FREEHOLD_FETCH_REPO_FILE", "")), **environ}
    names = ("URL", "REPO", "REVISION", "TARGET", *(() if token_file else ("TOKEN",)))
    values = [environ.get(f"FREEHOLD_FETCH_{name}", "") for name in names]
    missing = [f"FREEHOLD_FETCH_{name}" for name, value in zip(names, values, strict=True) if not value]
    if missing:
        raise Failure(Exit.MISCONFIGURED, f"Not set in the environment: {', '.join(missing)}.")
    url, repo, revision, target = values[:4]
    if urlsplit(url).scheme not in {"http", "https"}:
        raise Failure(Exit.MISCONFIGURED, "FREEHOLD_FETCH_URL must begin with http:// or https://.")
    try:
        seconds = float(environ.get("FREEHOLD_FETCH_TOKEN_SECONDS", _TOKEN_SECONDS))
    except ValueError:
        raise Failure(Exit.MISCONFIGURED, "FREEHOLD_FETCH_TOKEN_SECONDS must be a number of seconds.") from None
    return Request(
        url=url.rstrip("/"),
        token=environ.get("FREEHOLD_FETCH_TOKEN", ""),
        repo=repo,
        revision=revision,
        target=Path(target),
        digest=environ.get("FREEHOLD_FETCH_DIGEST", ""),
        token_file=Path(token_file) if token_file else None,
        token_seconds=seconds,
    )


def _content(path: str) -> str:
    """Of a small text file; empty where there is none."""
    try:
        return Path(path).read_text().strip() if path else ""
    except OSError:
        return ""


def fetch(request: Request) -> None:
    """Makes `request.target` a complete copy of the revision, or leaves it as it was. Raises Failure."""
    target = request.target
    try:
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with _lock(target.with_name(f"{target.name}.lock")):
            if is_warm(request):
                _say(f"{target} is there already")
                return
            _fetch(request)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise Failure(Exit.DISK_FULL, f"The disk under {target} is full.") from None
        raise Failure(Exit.MISCONFIGURED, f"{target} cannot be written: {error}.") from None


def is_warm(request: Request) -> bool:
    """Whether the target is a complete copy by its manifest. Sizes are looked at, contents are not hashed again."""
    try:
        manifest = json.loads((request.target / MANIFEST).read_bytes())
        files = [File(**file) for file in manifest["files"]]
        wanted = request.digest == manifest["digest"] if request.digest else request.revision == manifest["revision"]
        return (
            wanted
            and manifest["digest"] == digest_of(files)
            and all((request.target / file.path).stat().st_size == file.size for file in files)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def digest_of(files: list[File]) -> str:
    """As freehold.registry.digests.revision_digest; a test compares the two."""
    lines = (f"{path}\0{sha256}\0{size}\n" for path, sha256, size in sorted((f.path, f.sha256, f.size) for f in files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _fetch(request: Request) -> None:
    """Under the lock: brings what is missing, then puts the folder in its place."""
    target = request.target
    files = _listing(request)
    digest = digest_of(files)
    if request.digest not in {"", digest}:
        raise Failure(Exit.MISMATCH, f"The revision has the digest {digest}, not the expected {request.digest}.")
    if is_warm(replace(request, digest=digest)):
        _say(f"{target} is there already, of another commit with the same files")
        return
    partial = target.with_name(f"{target.name}.partial-{digest}")
    for leftover in target.parent.glob(f"{target.name}.partial-*"):  # of another revision: we hold the lock
        if leftover != partial:
            shutil.rmtree(leftover)
    try:
        _fill(request, files, partial)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            shutil.rmtree(partial, ignore_errors=True)  # others need the space more
        raise
    manifest = {
        "repo": request.repo,
        "revision": request.revision,
        "digest": digest,
        "files": [asdict(file) for file in files],
    }
    with (partial / MANIFEST).open("wb") as stream:
        stream.write(json.dumps(manifest, indent=1).encode())
        stream.flush()
        os.fsync(stream.fileno())
    _place(partial, target)


def _fill(request: Request, files: list[File], partial: Path) -> None:
    """Makes `partial` hold every file. What an earlier attempt has brought stays."""
    incoming = partial / INCOMING
    incoming.mkdir(mode=0o755, parents=True, exist_ok=True)
    missing = [file for file in files if _size(partial / file.path) != file.size]
    needed = sum(max(0, file.size - max(0, _size(incoming / file.sha256))) for file in missing)
    free = shutil.disk_usage(partial).free
    if needed > free:
        shutil.rmtree(partial)
        raise Failure(Exit.DISK_FULL, f"The model needs {needed} bytes; {free} are free under {partial.parent}.")
    if len(missing) < len(files):
        _say(f"{len(files) - len(missing)}/{len(files)} are there from an earlier attempt")
    total = sum(file.size for file in files)
    progress = _Progress(total=total, done=total - needed)
    for number, file in enumerate(missing, start=len(files) - len(missing) + 1):
        _download(request, file, incoming / file.sha256, partial / file.path, progress)
        _say(f"{number}/{len(files)} {file.path} {file.size} bytes")
    shutil.rmtree(incoming)


def _size(path: Path) -> int:
    """Of a regular file; -1 where there is none."""
    return path.stat().st_size if path.is_file() and not path.is_symlink() else -1


def _place(partial: Path, target: Path) -> None:
    """Puts the finished folder where it belongs; what was there and is no good goes."""
    for folder in [partial, *(path for path in partial.rglob("*") if path.is_dir())]:
        folder.chmod(0o755)
        _persist_folder(folder)
    stale = target.with_name(f"{target.name}.partial-{os.getpid()}-stale")
    if target.exists():
        target.rename(stale)
    partial.rename(target)
    _persist_folder(target.parent)
    shutil.rmtree(stale, ignore_errors=True)


def _listing(request: Request) -> list[File]:
    """Every file of the revision, page by page."""
    url: str | None = (
        f"{request.url}/api/models/{quote(request.repo)}/tree/{quote(request.revision, safe='')}?recursive=true"
    )
    files: list[File] = []
    while url is not None:
        page, url = _retried(_page, request, url)
        files += page
    return files


def _page(request: Request, url: str) -> tuple[list[File], str | None]:
    with _get(request, url) as response:
        content = _read(response)
        link = response.getheader("Link", "")
    try:
        entries: Any = json.loads(content)
        files = [File(entry["path"], entry["size"], entry["sha256"]) for entry in entries if entry["type"] == "file"]
    except (ValueError, KeyError, TypeError):
        raise Failure(Exit.NETWORK, f"{request.url} does not answer as a Freehold hub does.") from None
    for file in files:
        parts = PurePosixPath(file.path).parts
        if ".." in parts or parts[:1] in {("/",), (INCOMING,)} or file.path == MANIFEST:
            raise Failure(Exit.MISMATCH, f"The hub names a path that leads elsewhere: {file.path!r}.")
    return files, link[1 : link.index(">")] if 'rel="next"' in link else None


def _download(request: Request, file: File, incoming: Path, target: Path, progress: _Progress) -> None:
    """Brings one file. It gets its name once it is verified and on the disk: what has its name needs no second look."""
    resumed = _size(incoming) > 0
    if not _receive(request, file, incoming, progress):
        incoming.unlink()
        # What an earlier attempt left may not have reached the disk whole: only a fresh copy tells on the hub.
        if not (resumed and _receive(request, file, incoming, progress)):
            incoming.unlink(missing_ok=True)
            raise Failure(Exit.MISMATCH, f"{file.path} came with another content than its sha256 {file.sha256} says.")
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    incoming.rename(target)


def _receive(request: Request, file: File, incoming: Path, progress: _Progress) -> bool:
    """Whether the content is right. Hashes on the way; goes on where a connection, or an earlier process, broke off."""
    url = f"{request.url}/{quote(request.repo)}/resolve/{quote(request.revision, safe='')}/{quote(file.path)}"
    digest = hashlib.sha256()
    with incoming.open("a+b") as stream:
        stream.seek(0)
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
        _retried(_append, request, url, stream.fileno(), digest, file.size, progress)
        if stream.seek(0, os.SEEK_END) != file.size or digest.hexdigest() != file.sha256:
            return False
        os.fchmod(stream.fileno(), 0o644)
        os.fsync(stream.fileno())
    return True


def _append(request: Request, url: str, descriptor: int, digest: hashlib._Hash, size: int, progress: _Progress) -> None:
    position = os.lseek(descriptor, 0, os.SEEK_END)
    headers = {"Range": f"bytes={position}-"} if 0 < position < size else {}
    if headers or position == 0:
        with _get(request, url, headers) as response:
            if headers and response.status != 206:
                raise Failure(Exit.NETWORK, "The hub does not resume downloads.")
            while chunk := _read(response, _CHUNK):
                position += len(chunk)
                if position > size:
                    return  # the caller sees the size
                digest.update(chunk)
                progress.add(len(chunk))
                view = memoryview(chunk)
                while view:
                    view = view[os.write(descriptor, view) :]
    if position < size:
        raise _Interrupted(f"the connection ended {size - position} bytes early")


def _retried(
    call: Callable[Concatenate[Request, _P], _R], request: Request, *rest: _P.args, **options: _P.kwargs
) -> _R:
    """Calls again after an interruption, more patiently each time, and with the next token after a refused one. Raises
    Failure in the end."""
    interruptions = refusals = 0
    while True:
        try:
            return call(request, *rest, **options)
        except _Interrupted as interruption:
            interruptions += 1
            if interruptions == _ATTEMPTS:
                raise Failure(Exit.NETWORK, f"The hub cannot be reached: {interruption}") from None
            time.sleep(0.25 * 2**interruptions)
        except _TokenRefused as refusal:
            refusals += 1
            if refusals == _TOKENS or not _token_renewed(request, refusal):
                raise


def _token_renewed(request: Request, refusal: _TokenRefused) -> bool:
    """Waits for another token than the refused one. False where none can come, or none has come in time."""
    if request.token_file is None:
        return False
    _warn(f"{refusal} Waiting for another token in {request.token_file}")
    give_up_at = time.monotonic() + request.token_seconds
    while request.current_token() in {"", refusal.token}:
        if time.monotonic() > give_up_at:
            return False
        time.sleep(_TOKEN_POLL_SECONDS)
    return True


def _read(response: http.client.HTTPResponse, size: int | None = None) -> bytes:
    try:
        return response.read(size)
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(f"the connection broke: {str(error) or type(error).__name__}") from None


@contextmanager
def _get(request: Request, url: str, headers: Mapping[str, str] | None = None) -> Iterator[http.client.HTTPResponse]:
    """GET with redirects; the token goes to the hub and never along with a redirect. Raises Failure, _Interrupted."""
    token = request.current_token()
    if not token:
        raise _TokenRefused(f"There is no token in {request.token_file}.", token)
    sent = {**(headers or {}), "Authorization": f"Bearer {token}", "Accept-Encoding": "identity"}
    for _ in range(_REDIRECTS):
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_SECONDS)
        try:
            try:
                connection.request("GET", f"{parts.path}?{parts.query}" if parts.query else parts.path, headers=sent)
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise _Interrupted(f"{parts.netloc}: {str(error) or type(error).__name__}") from None
            if response.status not in {301, 302, 303, 307, 308}:
                _check(response, parts.path, token)
                yield response
                return
            url = urljoin(url, response.getheader("Location", ""))
            sent.pop("Authorization", None)
        finally:
            connection.close()
    raise Failure(Exit.NETWORK, f"{request.url} redirects without end.")


def _check(response: http.client.HTTPResponse, path: str, token: str) -> None:
    if response.status in {200, 206}:
        return
    reason = _reason(response)
    if response.status == 401:
        raise _TokenRefused(f"The hub refuses the token for {path}: {reason}", token)
    if response.status == 403:
        raise Failure(Exit.UNAUTHORIZED, f"The hub refuses the token for {path}: {reason}")
    if response.status == 404:
        raise Failure(Exit.NOT_FOUND, f"The hub has no {path}: {reason}")
    if response.status == 429 or response.status >= 500:
        raise _Interrupted(f"HTTP {response.status}: {reason}")
    raise Failure(Exit.NETWORK, f"The hub answers HTTP {response.status} to {path}: {reason}")


def _reason(response: http.client.HTTPResponse) -> str:
    """The hub's own words, on one line: its errors are JSON."""
    try:
        message = str(json.loads(_read(response, 65536))["error"])
    except (_Interrupted, ValueError, KeyError, TypeError):
        message = response.reason
    return " ".join(message.split())[:500]


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Waits until nobody else fetches the same folder. The lock ends with the process, however it ends."""
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"Another fetcher is at work on {path.with_suffix('')}: waiting for it")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _persist_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass
class _Progress:
    """How many bytes are there, told now and then."""

    total: int
    done: int
    told_at: float = field(default_factory=time.monotonic)

    def add(self, size: int) -> None:
        """More have come."""
        self.done += size
        now = time.monotonic()
        if now - self.told_at >= _PROGRESS_SECONDS:
            self.told_at = now
            percent = min(100, 100 * self.done // max(1, self.total))
            _warn(f"{percent} % {self.done} of {self.total} bytes")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _warn(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _report(reason: str, path: str) -> None:
    """Kubernetes shows what a container leaves in its termination log, up to 4,096 bytes, in the pod's status."""
    if path:
        with suppress(OSError):  # the reason is on stderr, too
            Path(path).write_bytes(reason.encode()[:4096])


if __name__ == "__main__":
    sys.exit(main())
