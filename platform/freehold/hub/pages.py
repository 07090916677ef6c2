"""Lists in pages: how many a page holds, and where the next one is (RFC 8288; clients follow it)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import JsonResponse

from freehold.common.errors import InvalidInput

if TYPE_CHECKING:
    from freehold.hub.requests import HubRequest


def size_of(request: HubRequest, *, most: int) -> int:
    """The query's `limit`, at most `most`, which is also the default. Raises InvalidInput."""
    limit = request.http.GET.get("limit", "")
    if not limit:
        return most
    if not (limit.isascii() and limit.isdigit()) or len(limit) > 9 or int(limit) == 0:
        raise InvalidInput("limit must be a positive number.", field="limit")
    return min(int(limit), most)


def page_response(request: HubRequest, items: list[dict[str, object]], *, after: dict[str, str] | None) -> JsonResponse:
    """A page. `after` is what to change in the query to get the next one; None on the last page."""
    response = JsonResponse(items, safe=False)
    if after is not None:
        query = request.http.GET.copy()
        for name, value in after.items():
            query[name] = value
        path = request.http.get_full_path().partition("?")[0]
        response["Link"] = f'<{request.origin}{path}?{query.urlencode()}>; rel="next"'
    return response
