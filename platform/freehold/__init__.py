"""Freehold: sovereign open-weight model hosting for GPU clouds. See docs/architecture.md."""

__version__ = "0.1.0"
