"""Writes the table of values into charts/freehold/README.md: `python -m tests.factories.chart_readme`.

Defaults come from values.yaml, descriptions from values.schema.json. A test fails where the table is not current.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import yaml

from tests.factories.charts import CHART

README = CHART / "README.md"
BEGIN, END = "<!-- values: begin -->", "<!-- values: end -->"


def rows() -> Iterator[tuple[str, str, str]]:
    """Name, description and default of every value, in the order of values.yaml."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    yield from _rows("", yaml.safe_load((CHART / "values.yaml").read_text()), schema)


def _rows(path: str, default: Any, schema: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    properties = schema.get("properties")
    if properties is None or "$ref" in schema:
        yield path, schema["description"], json.dumps(default, ensure_ascii=False)
        return
    for name in default:
        yield from _rows(f"{path}.{name}" if path else name, default[name], properties[name])


def table() -> str:
    """Markdown."""
    lines = ["| value | what it is | default |", "|---|---|---|"]
    for name, description, default in rows():
        shown = f"`{default}`".replace("|", "\\|") if default != '""' else ""
        lines.append(f"| `{name}` | {description.replace('|', chr(92) + '|')} | {shown} |")
    return "\n".join(lines)


def current() -> str:
    """README.md as it should be."""
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(current())
    sys.stdout.write(f"{README} is current.\n")
