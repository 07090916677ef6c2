"""Readable, stable names for what is discovered: `NVIDIA-H100-80GB-HBM3`, eight of them → `h100-80gb-hbm3-8x`. Pure."""

from __future__ import annotations

import hashlib
import re
from typing import Final

MAX: Final = 40  # GpuFlavor.name
_VENDORS: Final = re.compile(r"^(nvidia|amd)-(?:geforce-|instinct-|tesla-|radeon-)?")


def flavor_name(product: str, count: int, *, distinguish: str = "") -> str:
    """Lower-case letters, digits and hyphens, at most MAX. `distinguish` tells apart what would be called the same."""
    ending = f"-{count}x"
    slug = re.sub(r"[^a-z0-9]+", "-", product.lower()).strip("-")
    slug = _VENDORS.sub("", slug) or "accelerator"
    if distinguish or len(slug) + len(ending) > MAX:
        ending = f"-{hashlib.sha256(f'{product}/{distinguish}'.encode()).hexdigest()[:6]}{ending}"
        slug = slug[: MAX - len(ending)].rstrip("-")
    return slug + ending
