"""Parts of a page that htmx asks for again and again.

A part carries a tag of what it shows; the browser sends it back, and nothing is sent or replaced while it is the same.
So text stays selected, focus stays where it is, and a screen reader hears of changes only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe


@dataclass(frozen=True)
class Live:
    """A rendered part: `{{ part.html }}` in a page, `answer` for the requests that follow.

    `seconds` 0: what it shows does not change any more, so nobody asks.
    """

    element: str
    name: str
    url: str
    seconds: int
    inner: str

    @property
    def tag(self) -> str:
        """Stands for what is shown."""
        return hashlib.sha256(self.inner.encode()).hexdigest()[:16]

    @property
    def html(self) -> SafeString:
        """The part in its element, which asks for its successor."""
        if not self.seconds:
            return format_html(
                '<{0} id="{1}">{2}</{0}>',
                mark_safe(self.element),  # noqa: S308 - an element's name, constant in our views
                self.name,
                mark_safe(self.inner),  # noqa: S308 - a rendered template, escaped already
            )
        return format_html(
            '<{0} id="{1}" hx-get="{2}seen={3}" hx-trigger="every {4}s" hx-swap="outerHTML">{5}</{0}>',
            mark_safe(self.element),  # noqa: S308 - an element's name, constant in our views
            self.name,
            f"{self.url}{'&' if '?' in self.url else '?'}",
            self.tag,
            self.seconds,
            mark_safe(self.inner),  # noqa: S308 - a rendered template, escaped already
        )

    def answer(self, request: HttpRequest) -> HttpResponse:
        """The part, or 204 (htmx: leave it) where the browser has it already."""
        if request.GET.get("seen") == self.tag:
            return HttpResponse(status=204)
        return HttpResponse(self.html)


def live(
    request: HttpRequest,
    template: str,
    context: Mapping[str, Any],
    *,
    element: str,
    name: str,
    url: str,
    seconds: int,
) -> Live:
    """Renders `template` as a live part under the element id `name`, asked for again at `url` every `seconds`."""
    inner = render_to_string(template, dict(context), request=request)
    return Live(element=element, name=name, url=url, seconds=seconds, inner=inner)
