"""The source of an import, reached as this installation allows (IMPORT_ALLOW). Called by the import job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.utils.module_loading import import_string

from freehold.registry.choices import ImportKind
from freehold.registry.sources.addresses import AddressPolicy
from freehold.registry.sources.guard import guarded_client
from freehold.registry.sources.hub import HubSource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freehold.registry.sources.base import Source

# By name: boto3 costs 30 MB in every process, and most imports do without.
_S3: Final = "freehold.registry.sources.s3.s3_source"


def source_of(
    kind: ImportKind, source: Mapping[str, str], credentials: Mapping[str, str], *, pinned: str = ""
) -> Source:
    """The source that a ModelImport describes. `pinned`: the commit of an import that goes on.

    Raises InvalidInput naming the field, OutboundRefused.
    """
    client = guarded_client(AddressPolicy.parse(settings.IMPORT_ALLOW))
    if kind is ImportKind.HUB:
        return HubSource(
            client,
            url=source["url"],
            repo=source["repo"],
            revision=pinned or source.get("revision") or "main",
            token=credentials.get("token", ""),
        )
    found: Source = import_string(_S3)(client, source, credentials)
    return found
