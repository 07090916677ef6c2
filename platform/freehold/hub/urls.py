"""The hub's addresses, coarsely: door.py routes on the undecoded path, where `feature%2Fx` is one segment."""

from __future__ import annotations

from django.urls import re_path

from freehold.hub.door import door

urlpatterns = [
    re_path(r"^api/(?!v\d+/)", door),
    re_path(r"^(?:datasets|spaces|kernels)/", door),
    re_path(r"^[^/]+/(?:[^/]+/)?resolve/", door),
    re_path(r"^[^/]+/[^/]+\.git/", door),
]
