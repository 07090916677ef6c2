"""What may be completed, embedded, reranked and scored: text, and where an engine takes them, tokens. Called by
paths.py.

The engine also takes chat messages at these paths, whose images it would fetch; so nothing but text is let through.
"""

from __future__ import annotations

from typing import Any

from freehold.gateway.errors import ApiError, invalid
from freehold.gateway.surface.call import Body, Extent
from freehold.gateway.surface.parts import wrong_type

_SPECIAL = 16  # tokens around one text: beginning, end, separator
_PAIR = 512  # what a reranker's template puts around a pair
_PAIRS = (("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2"))


def count_texts(given: Any, param: str) -> int:
    """Prompts of a completion, inputs of an embedding: text, texts, tokens, or lists of tokens. Nothing else."""
    if isinstance(given, str):
        return 1
    if isinstance(given, list) and given:
        if all(type(item) is int for item in given):
            return 1
        texts = all(isinstance(item, str) for item in given)
        if texts or all(isinstance(item, list) and all(type(token) is int for token in item) for item in given):
            return len(given)
    raise wrong_type(param, "a string, a list of strings, a list of tokens or a list of those")


def extent_of_texts(count: int) -> Extent:
    """Of so many texts without a template."""
    return Extent(margin=_SPECIAL * count, sequences=count)


def check_rerank(body: Body) -> Extent:
    """A query and its documents. Documents may be objects with a `text`, as Cohere's and Jina's clients send them."""
    query = body["query"]
    if not isinstance(query, str):
        raise wrong_type("query", "a string")
    documents = body["documents"]
    if not isinstance(documents, list) or not documents:
        raise wrong_type("documents", "a non-empty list of strings")
    body["documents"] = [_text(document, f"documents[{index}]") for index, document in enumerate(documents)]
    top = body.get("top_n")
    if top is not None and (type(top) is not int or top < 1):
        raise invalid("'top_n' must be an integer of at least 1.", "top_n", "invalid_value")
    if top is None:
        body.pop("top_n", None)
    return _pairs(len(documents), [query, _instruction(body)])


def check_score(body: Body) -> Extent:
    """One text against many, or as many against as many."""
    for names in _PAIRS:
        if all(body.get(name) is not None for name in names):
            break
    else:
        raise _missing("text_1")
    if sum(body.get(name) is not None for pair in _PAIRS for name in set(pair) - set(names)) > 0:
        raise invalid(f"Send '{names[0]}' and '{names[1]}' alone.", names[0], "invalid_value")
    counts = []
    repeated = [_instruction(body)]
    for name in names:
        given = body[name]
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise wrong_type(name, "a string or a non-empty list of strings")
        counts.append(len(texts))
        if len(texts) == 1:
            repeated += texts
    return _pairs(max(counts), repeated)


def _pairs(count: int, repeated: list[str]) -> Extent:
    """A reranker reads a repeated text anew with each other one (an embedding model reads it once)."""
    again = sum(len(text.encode()) for text in repeated)
    return Extent(margin=again * (count - 1) + _PAIR * count, sequences=count)


def _instruction(body: Body) -> str:
    instruction = body.get("instruction")
    if instruction is not None and not isinstance(instruction, str):
        raise wrong_type("instruction", "a string")
    return instruction or ""


def _text(document: Any, param: str) -> str:
    text = document.get("text") if isinstance(document, dict) and document.keys() == {"text"} else document
    if not isinstance(text, str):
        raise wrong_type(param, "a string, or an object with nothing but a 'text'")
    return text


def _missing(name: str) -> ApiError:
    return invalid(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
