"""Closed lists of billing, free of Django."""

from __future__ import annotations

from enum import StrEnum


class Meter(StrEnum):
    """What is counted and priced."""

    PROMPT_TOKENS = "prompt_tokens"  # without the cached ones where these have a price of their own
    CACHED_PROMPT_TOKENS = "cached_prompt_tokens"
    COMPLETION_TOKENS = "completion_tokens"
    ACCELERATOR_SECONDS = "accelerator_seconds"  # counted in microseconds, priced by the hour
