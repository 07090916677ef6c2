"""Django's SecurityMiddleware, for an installation that also serves its hub inside of its cluster.

Customers come through a proxy that ends TLS, and plain HTTP is sent on to HTTPS. Engines' fetchers come straight to the
Service of web (FREEHOLD_HUB_URL), where nothing ends TLS: a redirect would lead them nowhere. Their requests are known
by the Host they name. No browser comes by it from outside, and whoever forges it gains nothing: cookies stay secure.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponsePermanentRedirect
from django.middleware import security

from freehold.common.env import ConfigurationError


def plain_host(url: str) -> str:
    """`host[:port]` of an `http://` origin, as clients write it in Host; empty for none, and for one that has TLS.

    Raises ConfigurationError where it is no origin.
    """
    parts = urlsplit(url)
    if url and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/")):
        raise ConfigurationError(f"FREEHOLD_HUB_URL must be an origin such as http://host:port, not {url!r}.")
    return parts.netloc.lower().removesuffix(":80") if parts.scheme == "http" else ""


class SecurityMiddleware(security.SecurityMiddleware):
    """Takes the place of Django's."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        super().__init__(get_response)
        self._plain_host = plain_host(settings.HUB_URL)

    def process_request(self, request: HttpRequest) -> HttpResponsePermanentRedirect | None:
        """Raises DisallowedHost, as Django's does where it redirects."""
        if self._plain_host and request.get_host().lower() == self._plain_host:
            return None
        return super().process_request(request)
