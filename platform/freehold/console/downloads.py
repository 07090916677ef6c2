"""A file's bytes for a browser: a signed link, made after the permission was checked, because cookies never count at
the hub. Called by views/model_files.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freehold.registry.content_links import SECONDS, BlobLink, Direction, download_sign
from freehold.registry.storage import object_store

if TYPE_CHECKING:
    from freehold.registry.models import ModelFile


def file_url(file: ModelFile) -> str:
    """Where a browser gets the file, for an hour: at the store itself where it has URLs, else at this origin."""
    name = file.path.rpartition("/")[2]
    elsewhere = object_store().download_url(
        file.tenant_id, sha256=file.sha256, filename=name, seconds=SECONDS[Direction.DOWNLOAD]
    )
    if elsewhere is not None:
        return elsewhere
    link = BlobLink(tenant_id=file.tenant_id, sha256=file.sha256, size=file.size, filename=name)
    return download_sign(origin="", link=link)
