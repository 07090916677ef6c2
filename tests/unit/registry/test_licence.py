"""What a model card's front matter and a licence file say."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.registry.inspection import card, licence

MIT = "Permission is hereby granted, free of charge, to any person obtaining a copy"
CARD = """---
# a comment
license: other
license_name: "Llama 3.1 Community"   # with a space
license_link: https://example.com/LICENSE
language:
- en
- 'de'
  # between
- et
base_model: [a/b, "c/d"]
pipeline_tag: text-generation
model-index:
- name: x
  results:
    - task: y
extra: {a: 1}
---
# Title
license: mit
"""


def test_the_front_matter_of_a_card_is_read() -> None:
    found = card.front_matter(CARD)
    assert card.text(found, "license_name") == "Llama 3.1 Community"
    assert card.texts(found, "language") == ["en", "de", "et"]
    assert card.texts(found, "base_model") == ["a/b", "c/d"]
    assert card.texts(card.front_matter("---\nlanguage: en\n---\n"), "language") == ["en"]
    assert card.text(found, "license_link") == "https://example.com/LICENSE"


@pytest.mark.parametrize("text", ["", "# Title", "---\nlicense: mit\n", "x\n---\nlicense: mit\n---\n", "---\n---\n"])
def test_what_is_no_front_matter_gives_nothing(text: str) -> None:
    assert card.front_matter(text) == {}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("                  Apache License\n            Version 2.0, January 2004\n", "apache-2.0"),
        (f"MIT License\n\n{MIT}", "mit"),
        (f"Modified MIT License\n{MIT}", "modified-mit"),
        ("LLAMA 2 COMMUNITY LICENSE AGREEMENT", "llama2"),
        ("META LLAMA 3 COMMUNITY LICENSE AGREEMENT", "llama3"),
        ("LLAMA 3.1 COMMUNITY LICENSE AGREEMENT\nLlama 3.1 Version", "llama3.1"),
        ("LLAMA 3.2 COMMUNITY LICENSE AGREEMENT", "llama3.2"),
        ("LLAMA 3.3 COMMUNITY LICENSE AGREEMENT", "llama3.3"),
        ("LLAMA 4 COMMUNITY LICENSE AGREEMENT", "llama4"),
        ("# Gemma Terms of Use\n", "gemma"),
        ("Qwen LICENSE AGREEMENT\n", "qwen"),
        ("Qwen RESEARCH LICENSE AGREEMENT", "qwen-research"),
        ("Tongyi Qianwen LICENSE AGREEMENT", "tongyi-qianwen"),
        ("DEEPSEEK LICENSE AGREEMENT", "deepseek"),
        ("Mistral AI Research License\n", "mrl"),
        ("Mistral AI Non-Production License", "mnpl"),
        ("Attribution-NonCommercial 4.0 International", "cc-by-nc-4.0"),
        ("Attribution-NonCommercial-ShareAlike 4.0 International", "cc-by-nc-sa-4.0"),
        ("Creative Commons Attribution 4.0 International", "cc-by-4.0"),
        ("BigScience Open RAIL-M", "openrail"),
        ("CreativeML Open RAIL-M", "creativeml-openrail-m"),
        ("Redistribution and use in source and binary forms ... Neither the name of", "bsd-3-clause"),
        ("GNU AFFERO GENERAL PUBLIC LICENSE\n Version 3, 19 November 2007", "agpl-3.0"),
        ("All rights reserved.", None),
    ],
)
def test_a_licence_is_recognised_by_its_text(text: str, name: str | None) -> None:
    assert licence.recognise(text) == name


@pytest.mark.parametrize(
    ("card_text", "file", "expected"),
    [
        ("license: apache-2.0", "Apache License, Version 2.0", ("apache-2.0", "apache-2.0", True)),
        ("license: mit", "Apache License, Version 2.0", ("mit", "apache-2.0", False)),
        (
            "license: other\nlicense_name: llama3.1",
            "LLAMA 3.1 COMMUNITY LICENSE AGREEMENT",
            ("llama3.1", "llama3.1", True),
        ),
        ("license: other", "DEEPSEEK LICENSE AGREEMENT", ("deepseek", "deepseek", None)),
        ("title: none", MIT, ("mit", "mit", None)),
        ("license: other\nlicense_name: modified-mit", "Modified MIT License", ("modified-mit", "modified-mit", True)),
        ("license: Apache-2.0", "", ("apache-2.0", None, None)),
    ],
)
def test_the_card_and_the_licence_file_are_compared(card_text: str, file: str, expected: tuple[Any, ...]) -> None:
    found = licence.licence_facts(card.front_matter(f"---\n{card_text}\n---\n"), {"LICENSE": file} if file else {})
    assert (found["id"], found["detected"], found["agrees"]) == expected
    assert found["file"] == ("LICENSE" if file else None)


@pytest.mark.parametrize("path", ["LICENSE", "LICENCE.txt", "License.md", "COPYING", "LICENSE-MODEL", "UNLICENSE"])
def test_licence_files_are_known_by_name(path: str) -> None:
    assert licence.is_licence_file(path)
    assert not licence.is_licence_file(f"sub/{path}")
