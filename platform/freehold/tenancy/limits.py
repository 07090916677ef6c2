"""Rate limits as keys, tenants and endpoints have them: the fields, what may be in them, and how gateways see them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from django.core.validators import MinValueValidator
from django.db import models

from freehold.common.errors import InvalidInput
from freehold.wire.records import Limits

if TYPE_CHECKING:
    _Limit = models.PositiveIntegerField[int | None, int | None]
else:
    _Limit = models.PositiveIntegerField

FIELDS: Final = ("requests_per_minute", "tokens_per_minute", "concurrency")
LARGEST: Final = 2_147_483_647  # PostgreSQL's integer


def limit_field(help_text: str) -> _Limit:
    """A limit: a whole number from 1 on, or null for none."""
    return models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)], help_text=help_text)


class Limited(models.Model):
    """Base of what can be limited. What a limit counts is said by wire.records.Limits; gateways enforce it."""

    requests_per_minute = limit_field("requests admitted in a minute; empty: no limit")
    tokens_per_minute = limit_field("prompt and completion tokens in a minute; empty: no limit")
    concurrency = limit_field("requests in flight at once; empty: no limit")

    class Meta:
        abstract = True

    @property
    def limits(self) -> Limits | None:
        """As gateways see them; None where nothing is limited."""
        found = {name: value for name in FIELDS if (value := getattr(self, name))}
        return Limits(**found) if found else None


def limits_check(values: Mapping[str, int | None], known: tuple[str, ...] = FIELDS) -> None:
    """Raises InvalidInput, naming the field, for what is no limit: None, or a whole number from 1 to LARGEST."""
    for name, value in values.items():
        if name not in known:
            raise InvalidInput(f"There is no limit {name!r}. There are: {', '.join(known)}.", field=name)
        # bool is a kind of int, and nobody means True by 1
        if value is not None and (type(value) is not int or not 1 <= value <= LARGEST):
            raise InvalidInput(f"{name} is a whole number from 1 to {LARGEST}, or null for no limit.", field=name)


def limits_apply(row: models.Model, values: Mapping[str, int | None]) -> dict[str, object]:
    """Writes checked values to a locked row. Returns what changed, for the audit trail: name → {from, to}."""
    changed: dict[str, object] = {}
    for name, value in values.items():
        before = getattr(row, name)
        if before != value:
            setattr(row, name, value)
            changed[name] = {"from": before, "to": value}
    if changed:
        row.save(update_fields=list(changed))
    return changed
