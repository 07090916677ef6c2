"""A revision written out where the operator is: a plain folder, or a tar. Called by the command revision_export.

Every byte is hashed on its way out: what cannot be proved to be what the customer uploaded is not handed over.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, BinaryIO, Final

from freehold.common.errors import Conflict, Refused
from freehold.registry import selectors
from freehold.registry.archive import archive_of
from freehold.registry.storage import object_store

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator
    from pathlib import Path

    from freehold.registry.models import Revision

_CHUNK: Final = 1024 * 1024


def revision_to_folder(*, revision: Revision, folder: Path) -> int:
    """Writes every file below `folder`, which must be empty or absent. Returns bytes written.

    Raises Conflict (the folder holds something), Refused (content is gone or is not what its sha256 says; the folder
    then lacks that file), OSError.
    """
    if folder.exists() and any(folder.iterdir()):
        raise Conflict(f"{folder} is not empty. Name a folder that does not exist yet.")
    total = 0
    for file in selectors.files(revision=revision):
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.partial")
        try:
            with partial.open("xb") as stream:
                for chunk in _content(revision.tenant_id, file.sha256, file.path):
                    stream.write(chunk)
                    total += len(chunk)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    return total


def revision_to_tar(*, revision: Revision, stream: BinaryIO) -> int:
    """Writes the same tar that customers download. Returns bytes written. Raises Refused, OSError."""
    archive = archive_of(revision, selectors.files(revision=revision))
    for segment in archive.segments:
        if segment.sha256:
            for chunk in _content(revision.tenant_id, segment.sha256, segment.path):
                stream.write(chunk)
        else:
            stream.write(segment.content)
    return archive.size


def _content(tenant_id: uuid.UUID, sha256: str, path: str) -> Iterator[bytes]:
    digest = hashlib.sha256()
    try:
        source = object_store().open(tenant_id, sha256)
    except FileNotFoundError:
        raise Refused(f"{path}: its content (sha256 {sha256}) is gone from the object store.", field=path) from None
    with source:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            yield chunk
    if digest.hexdigest() != sha256:
        raise Refused(
            f"{path}: the object store holds other content (sha256 {digest.hexdigest()}) than was uploaded ({sha256}).",
            field=path,
        )
