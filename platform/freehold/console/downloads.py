"""A file's bytes for a browser: a signed link, made after the permission was checked, because cookies never count at
the hub. Called by views/model_files.py.

The link is the one that hub.links signs and takes: console and hub stand beside each other and import nothing of one
another, so its form is written here again, and a test holds the two together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django.core import signing

from freehold.registry.storage import object_store

if TYPE_CHECKING:
    from freehold.registry.models import ModelFile

SECONDS: Final = 3600

_PREFIX: Final = "/blobs/"
_SALT: Final = "freehold.hub.blobs.download"


def file_url(file: ModelFile) -> str:
    """Where a browser gets the file, for an hour: at the store itself where it has URLs, else at this origin."""
    name = file.path.rpartition("/")[2]
    elsewhere = object_store().download_url(file.tenant_id, sha256=file.sha256, filename=name, seconds=SECONDS)
    if elsewhere is not None:
        return elsewhere
    return f"{_PREFIX}{signing.dumps([file.tenant_id.hex, file.sha256, file.size, name], salt=_SALT)}"
