"""Object storage behind one small interface: a local folder, or S3. Called by registry (small files, inspection,
verification, garbage collection) and by hub (large files in and out)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from django.conf import settings
from django.utils.module_loading import import_string

from freehold.registry.storage.base import ObjectStore
from freehold.registry.storage.local import LocalStore

# By name: boto3 costs 30 MB in every process, and most installations of one machine do without.
_S3 = "freehold.registry.storage.s3.configured"


@lru_cache(maxsize=4)
def _local(root: Path) -> LocalStore:
    return LocalStore(root)


def object_store() -> ObjectStore:
    """The store this installation is configured with: S3 where S3_BUCKET is set, else the folder OBJECT_STORE_PATH."""
    if settings.S3_BUCKET:
        store: ObjectStore = import_string(_S3)()
        return store
    return _local(Path(settings.OBJECT_STORE_PATH))
