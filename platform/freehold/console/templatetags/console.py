"""How numbers, money, moments and phases are written on pages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django import template
from django.conf.locale import LANG_INFO
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from freehold.common.money import format_nanos
from freehold.serving.choices import Phase
from freehold.serving.models import CatalogModel

register = template.Library()

_TONES = {
    Phase.READY: "good",
    Phase.DEGRADED: "warn",
    Phase.FAILED: "bad",
    Phase.UNKNOWN: "warn",
    Phase.PENDING: "busy",
    Phase.STARTING: "busy",
    Phase.DELETING: "busy",
}
_UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k"))
_BYTES = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_COUNTRIES = {
    "AE": "United Arab Emirates", "AT": "Austria", "AU": "Australia", "BR": "Brazil", "CA": "Canada",
    "CH": "Switzerland", "CN": "China", "CZ": "Czechia", "DE": "Germany", "ES": "Spain", "FI": "Finland",
    "FR": "France", "GB": "United Kingdom", "IL": "Israel", "IN": "India", "IT": "Italy", "JP": "Japan",
    "KR": "South Korea",
    "NL": "Netherlands", "NO": "Norway", "PL": "Poland", "SE": "Sweden", "SG": "Singapore", "TW": "Taiwan",
    "US": "United States",
}  # fmt: skip


@register.filter
def number(value: int | None) -> str:
    """1234567 → 1,234,567."""
    return "–" if value is None else f"{value:,}"


@register.filter
def count(value: int | None) -> str:
    """1700000000 → 1.7 B: parameters are told this way."""
    return _scaled(value, _UNITS, "")


@register.filter
def size(value: int | None) -> str:
    """Bytes for people, in powers of 1,024."""
    return _scaled(value, _BYTES, "bytes")


@register.filter
def percent(value: int, total: int | None) -> str:
    """How much of a total, at most 100, with one digit: for the width of a bar and beside it."""
    return f"{min(100.0, 100 * value / total):.1f}" if total else "0.0"


@register.filter
def language(code: str) -> str:
    """de → German, where Django knows the code; else the code. Django knows Chinese by its scripts only."""
    return "Chinese" if code.lower() == "zh" else str(LANG_INFO.get(code.lower(), {}).get("name", code))


@register.filter
def country(code: str) -> str:
    """FR → France, where publishers of models sit; else the code of ISO 3166-1."""
    return _COUNTRIES.get(code, code)


@register.filter
def catalog_url(entry: CatalogModel) -> str:
    """Where a model of the catalog is shown."""
    return reverse("console:catalog-model", args=entry.upstream_id.split("/", 1))


@register.filter
def money(nanos: int, currency: str) -> str:
    """Exact to the nano, as the ledger has it."""
    return format_nanos(nanos, currency)


@register.filter
def duration(seconds: int) -> str:
    """3725 → 1 h 2 min 5 s."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{value:,} {unit}" for value, unit in parts if value) or "0 s"


@register.filter
def short(digest: str | None) -> str:
    """The first twelve characters of a commit id."""
    return (digest or "–")[:12]


@register.filter
def when(moment: datetime | str | None) -> SafeString | str:
    """A moment, to the minute, in UTC; the element has it to the second."""
    if not moment:
        return "–"
    value = (datetime.fromisoformat(moment) if isinstance(moment, str) else moment).astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        value.isoformat(timespec="seconds"),
        f"{value:%Y-%m-%d %H:%M:%S} UTC",
        f"{value.day}\u00a0{value:%b}\u00a0{value.year}, {value:%H:%M}\u00a0UTC",
    )


@register.filter
def phase(value: str) -> SafeString:
    """A phase as a badge; colour is never the only sign."""
    tone = _TONES.get(Phase(value), "quiet") if value in set(Phase) else "quiet"
    return format_html('<span class="badge {}">{}</span>', tone, value)


@register.filter
def tone(condition: dict[str, Any]) -> str:
    """good, bad, busy or quiet: what a condition means for its reader."""
    status, kind = condition["status"], condition["type"]
    if status == "Unknown":
        return "warn"
    if kind == "Ready":
        return "good" if status == "True" else "warn"
    if status == "True":
        return "bad" if kind == "Failing" else "busy"
    return "quiet"


@register.filter
def headline(message: str) -> str:
    """A condition's first line: what is the matter."""
    return message.partition("\n")[0]


@register.filter
def loglines(message: str) -> str:
    """What follows it: the engine's last log lines, without their heading."""
    first, _, rest = message.partition("\n")[2].partition("\n")
    return rest if first.startswith("Last lines") else f"{first}\n{rest}".strip()


def _scaled(value: int | None, units: tuple[tuple[int, str], ...], unit: str) -> str:
    if value is None:
        return "–"
    for factor, name in units:
        if value >= factor:
            return f"{value / factor:.3g} {name}" if value < 1000 * factor else f"{value // factor:,} {name}"
    return f"{value:,} {unit}".strip()
