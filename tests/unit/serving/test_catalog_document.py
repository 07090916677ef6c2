"""What a catalog file may say, and how one that is wrong is answered."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from freehold.serving.catalog.document import MAX_BYTES, SHIPPED, CatalogInvalid, Kind, load

VALID: dict[str, Any] = {
    "id": "acme/small",
    "title": "Acme Small",
    "family": "acme",
    "publisher": "Acme",
    "origin": "NO",
    "licence": {"id": "MIT", "name": "MIT License", "url": "https://example.org/mit", "commercial_use": "yes"},
    "gated": False,
    "kind": "chat",
    "modalities": ["text"],
    "parameters": {"total": 8_000_000_000, "active": 1_000_000_000},
    "weights": {"bytes": 16_000_000_000, "basis": "computed", "dtype": "bfloat16", "format": "safetensors"},
    "context_length": 32768,
    "arguments": {"max_model_len": 16384},
    "recommended_flavors": [
        {"accelerator": "H200", "accelerators": 2, "tensor_parallel_size": 2, "basis": "computed"},
    ],
    "sources": [{"url": "https://example.org/card", "for": ["licence"]}],
}


def file_of(*models: dict[str, Any]) -> str:
    return yaml.safe_dump({"version": 1, "models": list(models)})


def changed(path: str, value: Any) -> dict[str, Any]:
    """VALID with one value replaced; `path` is dotted."""
    model: dict[str, Any] = copy.deepcopy(VALID)
    *parents, last = path.split(".")
    place: Any = model
    for name in parents:
        place = place[int(name)] if name.isdigit() else place[name]
    place[last] = value
    return model


def problems_of(text: str) -> list[tuple[str, str, str]]:
    with pytest.raises(CatalogInvalid) as caught:
        load(text)
    return [(problem.entry, problem.path, problem.message) for problem in caught.value.problems]


def test_a_valid_file_is_read_as_it_is() -> None:
    (entry,) = load(file_of(VALID)).entries
    assert (entry.id, entry.title, entry.family, entry.kind) == ("acme/small", "Acme Small", "acme", Kind.CHAT)
    assert entry.document == VALID


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    text = file_of(VALID)
    path = tmp_path / "catalog.yaml"
    path.write_text(text)
    assert load(path).digest == load(text).digest != load(text + "\n").digest


@pytest.mark.parametrize(
    ("path", "value", "where", "says"),
    [
        ("colour", "red", "$.models[0]", "There is no field 'colour' here. There are: arguments,"),
        ("arguments.trust_remote_code", True, "$.models[0].arguments", "There is no field 'trust_remote_code' here."),
        ("arguments.chat_template", "/etc/x", "$.models[0].arguments", "There is no field 'chat_template' here."),
        ("arguments.hf_overrides", {"auto_map": {}}, "$.models[0].arguments.hf_overrides", "auto_map"),
        ("id", "no-organization", "$.models[0].id", "organization/name"),
        ("id", "../etc", "$.models[0].id", "organization/name"),
        ("origin", "Norway", "$.models[0].origin", "ISO 3166-1"),
        ("licence.id", "mit", "$.models[0].licence.id", "SPDX"),
        ("licence.url", "http://example.org", "$.models[0].licence.url", "https"),
        ("licence.commercial_use", True, "$.models[0].licence.commercial_use", "quotation marks"),
        ("licence.commercial_use", "conditional", "$.models[0].licence", "'note' is missing"),
        ("weights.format", "pickle", "$.models[0].weights.format", "safetensors"),
        ("context_length", "32k", "$.models[0].context_length", "a whole number"),
        ("context_length", True, "$.models[0].context_length", "a whole number"),
        ("released", "2025-13-01", "$.models[0].released", "YYYY-MM-DD"),
        ("released", "2025-02-30", "$.models[0].released", "YYYY-MM-DD"),
        ("upstream_revision", "main", "$.models[0].upstream_revision", "40 lower-case hexadecimal"),
        ("exclude", ["../x"], "$.models[0].exclude[0]", "relative to the repository's root"),
        ("kind", "poem", "$.models[0].kind", "chat, completion, embedding or reranker"),
        ("sources", [], "$.models[0].sources", "List where the facts come from"),
        ("parameters.active", 9_000_000_000, "$.models[0].parameters.active", "No more parameters can be active"),
        ("arguments.max_model_len", 65536, "$.models[0].arguments.max_model_len", "holds 32768 tokens"),
        ("arguments.runner", "pooling", "$.models[0].arguments.runner", "Leave `runner` out"),
        ("kind", "embedding", "$.models[0].arguments.runner", "Write `runner: pooling`"),
        ("recommended_flavors.0.accelerators", 4, "$.models[0].recommended_flavors[0]", "give 2, not the 4"),
        ("arguments.tool_call_parser", "hermes", "$.models[0].arguments", "'enable_auto_tool_choice' is"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place_and_what_to_write(
    path: str, value: Any, where: str, says: str
) -> None:
    found = problems_of(file_of(changed(path, value)))
    assert len(found) == 1, found
    entry, place, message = found[0]
    assert place == where
    assert says in message
    assert entry == (value if path == "id" else "acme/small")


def test_a_missing_field_is_named_with_what_belongs_there() -> None:
    model = {name: value for name, value in VALID.items() if name != "origin"}
    ((entry, path, message),) = problems_of(file_of(model))
    assert (entry, path) == ("acme/small", "$.models[0]")
    assert message.startswith("The field 'origin' is missing. Write two capital letters")


def test_every_problem_is_reported_at_once_in_the_files_order() -> None:
    found = problems_of(file_of(changed("origin", "no"), changed("kind", "poem"), {"id": "acme/empty"}))
    assert [(entry, path) for entry, path, _ in found[:2]] == [
        ("acme/small", "$.models[0].origin"),
        ("acme/small", "$.models[1].kind"),
    ]
    assert {entry for entry, *_ in found} == {"acme/small", "acme/empty"}
    assert sum("is missing" in message for *_, message in found) == 13
    with pytest.raises(CatalogInvalid, match=f"The catalog has {len(found)} problems:"):
        load(file_of(changed("origin", "no"), changed("kind", "poem"), {"id": "acme/empty"}))


def test_an_entry_without_an_id_is_named_by_its_place() -> None:
    found = problems_of(file_of(VALID, changed("id", 7)))
    assert [(entry, path) for entry, path, _ in found] == [("model 2", "$.models[1].id")]


def test_an_id_is_there_once_whatever_the_case() -> None:
    ((entry, path, message),) = problems_of(file_of(VALID, changed("id", "Acme/SMALL")))
    assert (entry, path) == ("Acme/SMALL", "$.models[1].id")
    assert "$.models[0]" in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "A field|Open-weight models|null will not do"),
        ("[]", "will not do"),
        ("version: 1\nversion: 1\nmodels: []", r"the key 'version' is there twice.*line 2, column 1"),
        ("version: 1\nmodels:\n  - {id: a/b, id: c/d}", r"the key 'id' is there twice"),
        ("version: 1\nmodels: &x [1]\nother: *x", "an alias"),
        ("a: &a [x]\nb: {<<: *a}", "a key must be text|an alias"),
        ("{1: 2}", "a key must be text"),
        ("models: [", "line 1"),
        ("--- 1\n--- 2", "single document"),
        ("!!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("version: 2\nmodels: []", "Write 1"),
        ("[" * 5000, "not readable YAML|will not do"),
        ("# " + "x" * MAX_BYTES, f"larger than {MAX_BYTES} bytes"),
    ],
)
def test_what_is_no_catalog_is_refused_with_a_reason(text: str, says: str) -> None:
    with pytest.raises(CatalogInvalid, match=f"(?s){says}"):
        load(text)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_bytes(b"version: \xff\xfe")
    with pytest.raises(CatalogInvalid, match="UTF-8"):
        load(path)


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(CatalogInvalid, match="No such file"):
        load(tmp_path / "none.yaml")


def test_a_long_value_is_not_repeated_whole() -> None:
    ((_, _, message),) = problems_of(file_of(changed("title", "x" * 5000)))
    assert len(message) < 200


def test_dates_stay_text() -> None:
    bare = file_of(changed("released", "2025-07-28")).replace("'2025-07-28'", "2025-07-28")
    assert "released: 2025-07-28\n" in bare
    (entry,) = load(bare).entries
    assert entry.document["released"] == "2025-07-28"


def test_the_shipped_file_is_the_default_of_the_command() -> None:
    assert SHIPPED.name == "models.yaml"
    assert SHIPPED.stat().st_size < MAX_BYTES // 4
