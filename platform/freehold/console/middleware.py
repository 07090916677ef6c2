"""What a browser may do with the web process's pages, and how often it may try a password. Listed in
settings.MIDDLEWARE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from freehold.tenancy import throttle
from freehold.tenancy.models import User

# Everything comes from this origin, and nothing is inline: a script that slipped into a page would not run.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_SIGN_IN = frozenset({"console:login", "admin:login"})
_OTHERS = ("/admin/", "/api/")  # Django's admin brings its own markup; the API answers no pages


class ContentSecurityPolicyMiddleware:
    """Sets the policy on every HTML answer outside of the admin and the API."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """A policy that a view has set itself stays."""
        response = self._get_response(request)
        is_page = response.headers.get("Content-Type", "").startswith("text/html")
        if is_page and not request.path.startswith(_OTHERS):
            response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        return response


class SignInThrottleMiddleware:
    """Refuses passwords for a while after too many wrong ones, on the console's form and on the admin's."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Whoever is signed in afterwards knew the password of that account."""
        response = self._get_response(request)
        if _is_sign_in(request) and isinstance(request.user, User) and request.user.email == _account(request):
            throttle.succeeded(address=_address(request), account=_account(request))
        return response

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> HttpResponse | None:
        """Answers in place of the form where it is too often."""
        if not _is_sign_in(request):
            return None
        wait = throttle.attempt(address=_address(request), account=_account(request))
        if not wait:
            return None
        response = render(request, "console/session/throttled.html", {"minutes": -(-wait // 60)}, status=429)
        response.headers["Retry-After"] = str(wait)
        return response


def _is_sign_in(request: HttpRequest) -> bool:
    match = request.resolver_match
    return request.method == "POST" and match is not None and match.view_name in _SIGN_IN


def _account(request: HttpRequest) -> str:
    return request.POST.get("username", "").strip().lower()


def _address(request: HttpRequest) -> str:
    return str(request.META.get("REMOTE_ADDR", ""))
