"""The bodies that plain.py reads: of the fields that are asked most, those whose values need no look. They are apart
because structs cannot be compiled (native.py).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

_Number = float | int | UnsetType | None
_Whole = int | UnsetType | None
_Flag = bool | UnsetType | None
_Text = str | UnsetType | None
_Tokens = Annotated[int, Meta(ge=1, le=2**31 - 1)] | UnsetType
_Count = Annotated[int, Meta(ge=1, le=16)] | UnsetType
_Name = Annotated[str, Meta(min_length=1)]


class Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A message of a chat."""

    role: str
    content: _Text = UNSET
    name: str | UnsetType = UNSET


class Asked(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """`stream_options`."""

    include_usage: _Flag = UNSET
    continuous_usage_stats: _Flag = UNSET
    include_obfuscation: _Flag = UNSET


class Chat(msgspec.Struct, forbid_unknown_fields=True):
    """Of chat completions."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    model: _Name
    stream: _Flag = UNSET
    stream_options: Asked | UnsetType | None = UNSET
    n: _Count = UNSET
    max_tokens: _Tokens = UNSET
    max_completion_tokens: _Tokens = UNSET
    temperature: _Number = UNSET
    top_p: _Number = UNSET
    top_k: _Whole = UNSET
    min_p: _Number = UNSET
    presence_penalty: _Number = UNSET
    frequency_penalty: _Number = UNSET
    repetition_penalty: _Number = UNSET
    seed: _Whole = UNSET
    stop: str | list[str] | UnsetType | None = UNSET
    logprobs: _Flag = UNSET
    top_logprobs: _Whole = UNSET
    user: _Text = UNSET


class Completion(msgspec.Struct, forbid_unknown_fields=True):
    """Of completions."""

    prompt: str
    model: _Name
    stream: _Flag = UNSET
    stream_options: Asked | UnsetType | None = UNSET
    n: _Count = UNSET
    max_tokens: _Tokens = UNSET
    temperature: _Number = UNSET
    top_p: _Number = UNSET
    top_k: _Whole = UNSET
    seed: _Whole = UNSET
    stop: str | list[str] | UnsetType | None = UNSET
    logprobs: _Whole = UNSET
    user: _Text = UNSET


class Embedding(msgspec.Struct, forbid_unknown_fields=True):
    """Of embeddings."""

    input: str | Annotated[list[str], Meta(min_length=1)]
    model: _Name
    encoding_format: Literal["float", "base64"] | UnsetType | None = UNSET
    dimensions: _Whole = UNSET
    user: _Text = UNSET


class AnthropicMessage(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A message of messages."""

    role: str
    content: str


class Messages(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Of messages."""

    system: _Text = UNSET
    messages: Annotated[list[AnthropicMessage], Meta(min_length=1)]
    model: _Name
    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    stream: _Flag = UNSET
    temperature: _Number = UNSET
    top_p: _Number = UNSET
    top_k: _Whole = UNSET
    stop_sequences: list[str] | UnsetType | None = UNSET


decode_chat = msgspec.json.Decoder(Chat).decode
decode_completion = msgspec.json.Decoder(Completion).decode
decode_embedding = msgspec.json.Decoder(Embedding).decode
decode_messages = msgspec.json.Decoder(Messages).decode
