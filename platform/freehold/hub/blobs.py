"""Moves the bytes of blobs, outside Django's handler, which would spool a whole body before anyone sees it.

An ASGI application that config/asgi.py puts in front of Django. Memory is bounded whatever the size. Where the object
store lets clients come to itself (presigned URLs), hardly anything passes here.
"""

from __future__ import annotations

import errno

from freehold.common.errors import FreeholdError, Unavailable
from freehold.common.logging import get_logger
from freehold.hub.blob_downloads import download
from freehold.hub.blob_uploads import complete, upload
from freehold.hub.messages import Gone, Receive, Scope, Send, answer
from freehold.registry.content_links import BLOBS_PREFIX as BLOBS_PREFIX

log = get_logger(__name__)


async def blobs(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI 3, for paths under BLOBS_PREFIX."""
    try:
        if scope["method"] == "PUT":
            await upload(scope, receive, send)
        elif scope["method"] == "POST":
            await complete(scope, receive, send)
        elif scope["method"] in {"GET", "HEAD"}:
            await download(scope, receive, send)
        else:
            await answer(send, 405, "Blobs know GET, HEAD, PUT and POST.")
    except FreeholdError as error:
        later = [(b"retry-after", b"5")] if isinstance(error, Unavailable) else None
        await answer(send, error.status, error.message, headers=later)
    except (Gone, TimeoutError):
        log.info("blob_cut", method=scope["method"])
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        log.error("object_store_full", error=str(error))
        await answer(send, 507, "The object store is full. Tell your provider, then upload again.")
