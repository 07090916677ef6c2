"""Carries imports out: asks the source what it holds, moves what is not here yet, commits.

Every step can be done again: a worker that dies is followed by another, which goes on with the first byte that is
missing. Bytes move in parts, so that hours of them survive; progress is written down a few times a minute.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

from django.db import DatabaseError

from freehold.common.errors import FreeholdError, NotFound, Refused, Unavailable
from freehold.common.logging import get_logger
from freehold.db.connections import release
from freehold.registry import digests, imports, selectors, services, trees
from freehold.registry.choices import ImportFileStatus, ImportKind, ImportStatus
from freehold.registry.imports import ImportClaim, LostClaim, TenantSuspended
from freehold.registry.models import ImportFile, Upload
from freehold.registry.sources.base import Source, SourceFile, select
from freehold.registry.sources.configured import source_of
from freehold.registry.sources.errors import SourceGone, SourceUnavailable
from freehold.registry.sources.remote_code import is_code, is_configuration, without_remote_code
from freehold.registry.storage import object_store
from freehold.registry.storage.base import Writer

log = get_logger(__name__)

SLICE_SECONDS: Final = 300.0  # then the others have a turn
GRACE_SECONDS: Final = 900.0  # to finish what has been begun by then
PULSE_SECONDS: Final = imports.LEASE.total_seconds() / 6
_SUSPENDED_SECONDS: Final = 60.0
_BEAT_SECONDS: Final = 5.0
_INLINE_BYTES: Final = 16 * 1024 * 1024  # a file without a known hash that is smaller is held in memory
_LONGEST_PAUSE: Final = 3600.0
_PAUSES: Final = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0)


_UNFORESEEN: Final = "Something went wrong that nobody foresaw. Tell your provider, who finds it in the logs."
_CODE: Final = "It is Python code, and the import leaves such behind, as asked."
_CLEANED: Final = "What would have run code from the repo (auto_map) was taken out, as asked."


class _Cancelled(Exception):
    """Somebody asked to."""


class _TurnOver(Exception):
    """It is somebody else's turn."""


def import_next() -> bool:
    """Works on one import for a turn. Returns whether there was one."""
    claim = imports.import_claim()
    if claim is None:
        return False
    run = _Run(claim)
    try:
        with _pulse(claim):
            run.go()
    except LostClaim:
        log.info("import_taken_over", model_import=claim.model_import.public_id)
    finally:
        release()
    return True


class _Run:
    """One turn of one import."""

    def __init__(self, claim: ImportClaim) -> None:
        self._claim, self._import = claim, claim.model_import
        self._tenant_id = claim.model_import.tenant_id
        self._turn_ends = time.monotonic() + SLICE_SECONDS
        self._next_beat = 0.0

    def go(self) -> None:
        """Raises LostClaim."""
        found = self._import
        try:
            self._bring()
        except _Cancelled:
            imports.import_finish(claim=self._claim, status=ImportStatus.CANCELLED, message="Cancelled.")
        except _TurnOver:
            imports.import_pause(claim=self._claim, seconds=0)
        except TenantSuspended:
            imports.import_pause(claim=self._claim, seconds=_SUSPENDED_SECONDS)
        except (Unavailable, OSError) as error:
            seconds = self._pause_seconds()
            if isinstance(error, SourceUnavailable):
                seconds = max(seconds, min(error.retry_after_s or 0.0, _LONGEST_PAUSE))
            log.warning("import_interrupted", model_import=found.public_id, error=str(error), pause_seconds=seconds)
            imports.import_pause(claim=self._claim, seconds=seconds, message=_sentence(error), failed=True)
        except FreeholdError as error:
            log.info("import_failed", model_import=found.public_id, error=str(error))
            imports.import_finish(claim=self._claim, status=ImportStatus.FAILED, message=_sentence(error))
        except LostClaim:
            raise
        except Exception:  # else whatever a stranger's listing can cause would come again every time the lease ends
            log.exception("import_broke", model_import=found.public_id)
            imports.import_pause(claim=self._claim, seconds=self._pause_seconds(), message=_UNFORESEEN, failed=True)

    def _pause_seconds(self) -> float:
        return _PAUSES[min(imports.import_attempts(claim=self._claim), len(_PAUSES) - 1)]

    def _bring(self) -> None:
        kind, pinned = ImportKind(self._import.kind), self._import.pinned
        with closing(source_of(kind, self._import.source, self._claim.credentials, pinned=pinned)) as source:
            files = self._files(source)
            self._beat(always=True)
            self._reserve(files)
            moved = False
            for file in files:
                if file.status == ImportFileStatus.PENDING:
                    if moved and time.monotonic() > self._turn_ends:
                        raise _TurnOver
                    self._beat(always=True)
                    self._fetch(source, file)
                    moved = True
        self._commit(files)

    def _files(self, source: Source) -> list[ImportFile]:
        if self._import.pinned:
            return imports.import_files(tenant_id=self._tenant_id, import_id=self._import.pk)
        listing = select(source.describe(), include=self._import.include, exclude=self._import.exclude)
        if not listing.files:
            raise Refused("The source holds no file that was asked for. Look at its address, and at the patterns.")
        files = [self._row(file) for file in listing.files]
        if self._import.remove_remote_code:
            for row in files:
                if is_code(row.path):
                    row.status, row.note = ImportFileStatus.SKIPPED.value, _CODE
        for skipped in listing.skipped:
            row = self._row(SourceFile(path=skipped.path, size=skipped.size))
            row.status, row.note = ImportFileStatus.SKIPPED.value, skipped.reason
            files.append(row)
        return imports.import_files_set(claim=self._claim, pinned=listing.pin, files=files)

    def _row(self, file: SourceFile) -> ImportFile:
        return ImportFile(
            tenant_id=self._tenant_id,
            model_import=self._import,
            path=file.path,
            size=file.size,
            sha256=file.sha256 or "",
            # Of a larger file nobody here computes Git's id, and what nobody has checked is not shown.
            git_oid=file.git_oid or "" if file.size <= _INLINE_BYTES else "",
            etag=file.etag or "",
        )

    def _reserve(self, files: list[ImportFile]) -> None:
        """Room for everything at once, before the first byte. Content that is here already is done."""
        pending = [file for file in files if file.status == ImportFileStatus.PENDING]
        named = [file for file in pending if file.sha256 and not self._is_cleaned(file)]
        unnamed = sum(file.size for file in pending if file not in named and file.upload is None)
        imports.import_uploads_keep(claim=self._claim)
        services.room_check(tenant_id=self._tenant_id, wanted=unnamed)
        uploads = services.uploads_begin(
            actor=self._claim.actor,
            tenant_id=self._tenant_id,
            contents=[services.Content(sha256=file.sha256, size=file.size) for file in named],
        )
        for file in named:
            file.upload = uploads[file.sha256]
            if file.upload is None:
                self._take(file)

    def _is_cleaned(self, file: ImportFile) -> bool:
        """Whether its content may not stay what the source has."""
        return self._import.remove_remote_code and is_configuration(file.path) and file.size <= _INLINE_BYTES

    def _take(self, file: ImportFile) -> None:
        """Content that is here already is not moved."""
        self._check_here(file)
        self._done(file, file.sha256)

    def _fetch(self, source: Source, file: ImportFile) -> None:
        if file.size <= _INLINE_BYTES and (file.git_oid or not file.sha256 or self._is_cleaned(file)):
            self._fetch_inline(source, file)
            return
        if file.sha256 and services.content_find(tenant_id=self._tenant_id, sha256=file.sha256):
            self._take(file)  # it came meanwhile: under another name, or by another import
            return
        try:
            self._fetch_large(source, file)
        except NotFound as error:
            if isinstance(error, SourceGone):
                raise
            raise Unavailable(f"{file.path}: its upload was ended by somebody else. It is looked at again.") from error

    def _fetch_large(self, source: Source, file: ImportFile) -> None:
        upload = file.upload or services.upload_begin_unnamed(
            actor=self._claim.actor, tenant_id=self._tenant_id, size=file.size
        )
        if file.upload is None:
            file.upload = upload
            imports.import_file_record(claim=self._claim, file=file, progress=False)
        sha256, verified = self._in_parts(source, file, upload) if upload.multipart_id else self._whole(source, file)
        services.upload_finish(
            actor=self._claim.actor,
            tenant_id=self._tenant_id,
            upload_id=upload.pk,
            sha256=sha256,
            verified=verified,
        )
        self._done(file, sha256)

    def _fetch_inline(self, source: Source, file: ImportFile) -> None:
        content = b"".join(self._chunks(source, file, 0, file.size))
        _check_listed(file, content)
        if self._import.remove_remote_code:
            cleaned = without_remote_code(file.path, content)
            if cleaned is not None:
                content, file.size, file.note = cleaned, len(cleaned), _CLEANED
        entry = services.content_add(actor=self._claim.actor, tenant_id=self._tenant_id, content=content)
        file.git_oid = entry.oid
        self._done(file, entry.sha256)

    def _check_here(self, file: ImportFile) -> None:
        """That a small file, whose content is here, is also what its Git object id says: commits show that id."""
        if file.git_oid and file.size <= _INLINE_BYTES:
            with object_store().open(self._tenant_id, file.sha256) as stream:
                _check_listed(file, stream.read())

    def _whole(self, source: Source, file: ImportFile) -> tuple[str, bool]:
        writer = object_store().writer(self._tenant_id, sha256=file.sha256, size=file.size)
        self._write(writer, self._chunks(source, file, 0, file.size), file, 0)
        return file.sha256, True

    def _in_parts(self, source: Source, file: ImportFile, upload: Upload) -> tuple[str, bool]:
        store, multipart = object_store(), upload.multipart
        here = {part.number for part in store.parts(multipart)}
        for number in range(1, multipart.parts + 1):
            if number in here:
                continue
            start, length = (number - 1) * multipart.part_bytes, multipart.length(number)
            writer = store.part_writer(multipart, number=number)
            self._write(writer, self._chunks(source, file, start, length), file, start)
        completed = store.multipart_complete(multipart, store.parts(multipart))
        return completed.sha256, completed.verified

    def _write(self, writer: Writer, chunks: Iterator[bytes], file: ImportFile, start: int) -> None:
        received = start
        try:
            for chunk in chunks:
                writer.write(chunk)
                received += len(chunk)
                if self._beat():
                    imports.import_file_received(claim=self._claim, file=file, received=received)
            writer.commit()
        finally:
            writer.abort()
        imports.import_file_received(claim=self._claim, file=file, received=received, stays=True)
        if time.monotonic() > self._turn_ends and received < file.size:
            raise _TurnOver

    def _chunks(self, source: Source, file: ImportFile, start: int, length: int) -> Iterator[bytes]:
        """Exactly `length` bytes from `start` on. Raises SourceUnavailable where fewer come."""
        wanted = SourceFile(
            path=file.path,
            size=file.size,
            sha256=file.sha256 or None,
            git_oid=file.git_oid or None,
            etag=file.etag or None,
        )
        left = length
        if not left:
            return
        with source.open(wanted, offset=start) as chunks:
            for chunk in chunks:
                taken = chunk[:left]
                left -= len(taken)
                if left and time.monotonic() > self._turn_ends + GRACE_SECONDS:
                    raise SourceUnavailable(f"{file.path}: the source is too slow: others wait for their turn.")
                yield taken
                if not left:
                    return
        raise SourceUnavailable(f"{file.path}: the source stopped {left} bytes early.")

    def _done(self, file: ImportFile, sha256: str) -> None:
        file.sha256, file.upload = sha256, None
        file.received, file.status = file.size, ImportFileStatus.DONE.value
        imports.import_file_record(claim=self._claim, file=file)

    def _beat(self, *, always: bool = False) -> bool:
        """Keeps the claim, a few times a minute. Returns whether it was time. Raises LostClaim, _Cancelled."""
        moment = time.monotonic()
        if not always and moment < self._next_beat:
            return False
        self._next_beat = moment + _BEAT_SECONDS
        if not imports.import_beat(claim=self._claim):
            raise _Cancelled
        return True

    def _commit(self, files: list[ImportFile]) -> None:
        """The branch then holds what the source holds, and nothing else; what it held before stays in its history."""
        self._beat(always=True)
        done = [file for file in files if file.status == ImportFileStatus.DONE]
        large = services.contents_find(tenant_id=self._tenant_id, sha256s=[file.sha256 for file in done])
        operations: list[trees.Operation] = []
        gone = [file for file in done if file.sha256 not in large]
        for file in gone:
            file.status, file.received = ImportFileStatus.PENDING.value, 0
            imports.import_file_record(claim=self._claim, file=file, progress=False)
        if gone:
            raise Unavailable(f"{gone[0].path}: its content is gone again. It is fetched once more.")
        for file in done:
            entry = large[file.sha256]
            if file.git_oid:
                entry = trees.Entry(sha256=file.sha256, size=file.size, oid=file.git_oid, lfs=False)
            operations.append(trees.Add(path=file.path, entry=entry))
        head = selectors.revision_of(model=self._import.repo, revision=self._import.ref)
        kept = {file.path for file in done}
        operations += [trees.Delete(path=file.path) for file in selectors.files(revision=head) if file.path not in kept]
        revision = services.revision_commit(
            actor=self._claim.actor,
            tenant_id=self._tenant_id,
            repo=self._import.repo.name,
            operations=operations,
            message=f"Import {_origin(self._import.kind, self._import.source)}",
            description=f"From {self._import.source} at {self._import.pinned}." if self._import.pinned else "",
            ref=self._import.ref,
        )
        skipped = [file for file in files if file.status == ImportFileStatus.SKIPPED]
        message = f"{len(skipped)} files were left out, such as {skipped[0].path}: {skipped[0].note}" if skipped else ""
        imports.import_finish(
            claim=self._claim, status=ImportStatus.SUCCEEDED, message=message, revision_id=revision.pk
        )


def _check_listed(file: ImportFile, content: bytes) -> None:
    right = file.git_oid in {"", digests.git_oid(content)} and file.sha256 in {"", digests.sha256(content)}
    if not right:
        raise Refused(f"{file.path}: what came is not what the source lists: its hash is another.", field=file.path)


def _origin(kind: str, source: dict[str, str]) -> str:
    if kind == ImportKind.HUB:
        return f"{source['repo']} from {source['url']}"
    return f"s3://{source['bucket']}/{source.get('prefix', '')}"


def _sentence(error: Exception) -> str:
    said = getattr(error, "message", "") or str(error) or type(error).__name__
    return str(said).replace("\0", "")[:2000]


@contextmanager
def _pulse(claim: ImportClaim) -> Iterator[None]:
    """Keeps the claim while the block runs. Listing a source, hashing a large file and committing take longer than a
    lease, and none of them comes back in between; whoever lost the claim finds out at the next step."""
    ended = threading.Event()

    def beat() -> None:
        try:
            while not ended.wait(PULSE_SECONDS):
                try:
                    imports.import_keep(claim=claim)
                except DatabaseError as error:
                    log.warning("import_pulse_failed", model_import=claim.model_import.public_id, error=repr(error))
                finally:
                    release()
        except LostClaim:
            return

    thread = threading.Thread(target=beat, name="import-pulse", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
