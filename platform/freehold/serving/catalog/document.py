"""Reads a catalog file and finds all that is wrong with it. Called by catalog_load, the seed and tests. No Django here.

YAML is read narrowly: at most MAX_BYTES, no key twice, no aliases (a few lines of them can stand for gigabytes), and
dates stay text. Then comes the JSON schema beside this file (schema.json, draft 2020-12), then what no schema can say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from freehold.common.errors import InvalidInput

SHIPPED: Final = Path(__file__).with_name("models.yaml")
MAX_BYTES: Final = 1024 * 1024
_SCHEMA: Final = Path(__file__).with_name("schema.json")
_SHOWN = 60  # characters of a wrong value that a message repeats


class Kind(StrEnum):
    """What a model is for; the schema has the same words."""

    CHAT = "chat"
    COMPLETION = "completion"
    EMBEDDING = "embedding"
    RERANKER = "reranker"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: at which entry (its id, "" outside of any), at which JSON path, and what to write."""

    entry: str
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.entry or 'catalog'}, at {self.path}: {self.message}"


class CatalogInvalid(InvalidInput):
    """The file cannot be loaded; `problems` has everything that is wrong with it, in the file's order."""

    def __init__(self, message: str, *, field: str | None = None, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(message, field=field)
        self.problems = problems

    @classmethod
    def of(cls, problems: tuple[Problem, ...]) -> CatalogInvalid:
        """With all of them in its words."""
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        words = "\n".join([f"The catalog has {count}:", *map(str, problems)])
        return cls(words, field="catalog", problems=problems)


@dataclass(frozen=True)
class Entry:
    """One model. `document` is the whole entry as the file has it, in JSON's types."""

    id: str
    title: str
    family: str
    kind: Kind
    document: Mapping[str, Any]


@dataclass(frozen=True)
class Catalog:
    """A valid file. `digest` is the SHA-256 of its bytes: what an audit event names."""

    entries: tuple[Entry, ...]
    digest: str


@cache
def schema() -> dict[str, Any]:
    """The JSON schema that entries are held against."""
    read: dict[str, Any] = json.loads(_SCHEMA.read_text())
    return read


def load(source: Path | str) -> Catalog:
    """The catalog in a file, or in text. Raises CatalogInvalid naming every problem at once."""
    content = _content(source)
    document = _parsed(content)
    problems = list(_against_schema(document))
    # What follows looks at fields of the right type only, so it adds to the schema's findings and repeats none.
    problems += _beyond_schema(document)
    if problems:
        raise CatalogInvalid.of(tuple(problems))
    return Catalog(
        entries=tuple(
            Entry(model["id"], model["title"], model["family"], Kind(model["kind"]), model)
            for model in document["models"]
        ),
        digest=hashlib.sha256(content).hexdigest(),
    )


def _content(source: Path | str) -> bytes:
    if isinstance(source, str):
        content = source.encode()
    else:
        try:
            with source.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise _whole(
                f"{source} cannot be read: {error.strerror or error}. Give the path of a catalog file."
            ) from error
    if len(content) > MAX_BYTES:
        raise _whole(f"The file is larger than {MAX_BYTES} bytes. Shorten the notes or offer fewer models.")
    return content


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses what would hide or multiply content."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """As SafeLoader's. Raises ComposerError at an alias."""
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call] # by types-PyYAML
            raise yaml.composer.ComposerError(None, None, "an alias (*) is not read here: write the value out", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As SafeLoader's. Raises ConstructorError at a key that is there twice or is not text."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
            if key_node.value in seen:
                message = f"the key {key_node.value!r} is there twice: remove one of them"
                raise yaml.constructor.ConstructorError(None, None, message, key_node.start_mark)
            seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


# A bare 2025-07-28 stays text, which the schema then checks; JSON has no dates.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _parsed(content: bytes) -> Any:
    try:
        # A subclass of SafeLoader, which S506 cannot see.
        return yaml.load(content, Loader=_Loader)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "an unknown line"
        what = f"{error.context}, {error.problem}" if error.context else error.problem
        raise _whole(f"{what} ({where}).") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _whole(
            f"The file is not readable YAML in UTF-8: {type(error).__name__}. Check it with an editor."
        ) from error


def _whole(message: str) -> CatalogInvalid:
    return CatalogInvalid.of((Problem("", "$", message),))


def _against_schema(document: Any) -> Iterator[Problem]:
    validator = Draft202012Validator(schema(), format_checker=Draft202012Validator.FORMAT_CHECKER)
    for error in sorted(
        validator.iter_errors(document), key=lambda error: [str(part).zfill(6) for part in error.absolute_path]
    ):
        yield Problem(_entry_of(document, error), error.json_path, _message(error))


def _entry_of(document: Any, error: ValidationError) -> str:
    path = list(error.absolute_path)
    if len(path) < 2 or path[0] != "models":
        return ""
    model = document["models"][path[1]]
    name = model.get("id") if isinstance(model, dict) else None
    return name if isinstance(name, str) else f"model {int(path[1]) + 1}"


def _message(error: ValidationError) -> str:
    """What is wrong and what to write instead: the schema's own description says the latter."""
    rule = error.schema if isinstance(error.schema, Mapping) else {}
    if error.validator == "additionalProperties" and isinstance(error.instance, Mapping):
        known = sorted(rule.get("properties", {}))
        unknown = ", ".join(repr(name) for name in error.instance if name not in known)
        return f"There is no field {unknown} here. There are: {', '.join(known)}."
    if error.validator in {"required", "dependentRequired"}:
        # jsonschema makes one error a missing field, and begins its message with the name.
        name = error.message.split("'")[1]
        return f"The field {name!r} is missing. {_description(rule.get('properties', {}).get(name, {}))}".strip()
    shown = json.dumps(error.instance, ensure_ascii=False, default=str)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
    return f"{shown} will not do. {_remedy(error)}"


def _remedy(error: ValidationError) -> str:
    """The innermost description on the way to the rule that was broken."""
    part: Any = schema()
    remedy = ""
    for step in error.absolute_schema_path:
        # The path leaves out "$ref", and goes on in what that points at.
        part = part[step] if not isinstance(part, Mapping) or step in part else _target(part)[str(step)]
        if isinstance(part, Mapping):
            remedy = str(part.get("description", remedy))
    return remedy


def _description(field: Mapping[str, Any]) -> str:
    return str(field.get("description") or _target(field).get("description", ""))


def _target(field: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a field's $ref points at; nothing where it has none."""
    found: Mapping[str, Any] = schema()["$defs"].get(str(field.get("$ref", "")).rpartition("/")[2], {})
    return found


def _beyond_schema(document: Any) -> Iterator[Problem]:
    models = document.get("models") if isinstance(document, dict) else None
    first: dict[str, int] = {}
    for index, model in enumerate(models if isinstance(models, list) else []):
        if not isinstance(model, dict):
            continue
        path, name = f"$.models[{index}]", model.get("id")
        if isinstance(name, str):
            if name.lower() in first:
                other = f"$.models[{first[name.lower()]}]"
                yield Problem(name, f"{path}.id", f"This model is there already, at {other}. Remove one of them.")
            first.setdefault(name.lower(), index)
        for where, message in _of_model(model):
            yield Problem(name if isinstance(name, str) else f"model {index + 1}", path + where, message)


def _of_model(model: dict[str, Any]) -> Iterator[tuple[str, str]]:
    total, active = (_integer(model, "parameters", name) for name in ("total", "active"))
    if total and active and active > total:
        yield ".parameters.active", f"No more parameters can be active ({active}) than there are ({total})."
    context, longest = _integer(model, "context_length"), _integer(model, "arguments", "max_model_len")
    if context and longest and longest > context:
        yield ".arguments.max_model_len", f"The model holds {context} tokens. Write at most that many."
    arguments = model.get("arguments")
    if isinstance(arguments, dict) and isinstance(kind := model.get("kind"), str) and kind in set(Kind):
        pooling = arguments.get("runner") == "pooling"
        if pooling != (kind in {Kind.EMBEDDING, Kind.RERANKER}):
            remedy = "Leave `runner` out." if pooling else "Write `runner: pooling`."
            yield ".arguments.runner", f"That does not fit the kind {kind}. {remedy}"
    flavors = model.get("recommended_flavors")
    for index, flavor in enumerate(flavors if isinstance(flavors, list) else []):
        sizes = [_integer(flavor, f"{word}_parallel_size") or 1 for word in ("tensor", "pipeline", "data")]
        spread, accelerators = sizes[0] * sizes[1] * sizes[2], _integer(flavor, "accelerators")
        if accelerators and spread != accelerators:
            message = f"Tensor × pipeline × data parallel sizes give {spread}, not the {accelerators} accelerators."
            yield f".recommended_flavors[{index}]", f"{message} Write sizes that do."


def _integer(value: Any, *names: str) -> int | None:
    """The whole number at a path, or None where there is none: the schema has said so by then."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None
