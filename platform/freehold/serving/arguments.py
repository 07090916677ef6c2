"""Which vLLM arguments a customer may set, and what each may be. Everything else is refused by name.

The names are vLLM's flags with underscores. Pure: no Django.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from freehold.common.errors import Refused

Arguments = dict[str, str | int]


@dataclass(frozen=True)
class _Integer:
    least: int
    most: int

    def check(self, name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not self.least <= value <= self.most:
            raise Refused(f"{name} must be a whole number from {self.least} to {self.most}.", field=f"arguments.{name}")
        return value


@dataclass(frozen=True)
class _Choice:
    values: tuple[str, ...]

    def check(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in self.values:
            raise Refused(f"{name} must be one of {', '.join(self.values)}.", field=f"arguments.{name}")
        return value


ALLOWED: Final[Mapping[str, _Integer | _Choice]] = {
    "max_model_len": _Integer(16, 16 * 1024 * 1024),
    "max_num_seqs": _Integer(1, 4096),
    "max_num_batched_tokens": _Integer(16, 1024 * 1024),
    "dtype": _Choice(("auto", "bfloat16", "float16", "float32")),
    "seed": _Integer(0, 2**31 - 1),
}


def validate(arguments: Mapping[str, Any]) -> Arguments:
    """The arguments as they will be pinned. Raises Refused naming the argument and what is allowed."""
    checked: Arguments = {}
    for name, value in sorted(arguments.items()):
        rule = ALLOWED.get(name)
        if rule is None:
            raise Refused(
                f"The argument {name!r} cannot be set here. These can: {', '.join(sorted(ALLOWED))}.",
                field=f"arguments.{name}",
            )
        checked[name] = rule.check(name, value)
    return checked
