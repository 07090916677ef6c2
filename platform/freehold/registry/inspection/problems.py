"""Problem: why a file is refused, for the person who uploaded it. Used by every check of the inspection."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One reason for refusal.

    Attributes:
        file: path in the repo.
        reason: stable, machine-readable word.
        detail: what is wrong, reading on from the file's name: "is a pickle, …".
        remedy: what to do, a full sentence.
    """

    file: str
    reason: str
    detail: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: {self.detail}. {self.remedy}"


class Malformed(Exception):
    """A file breaks its format. Raised by the readers, turned into a Problem by whoever knows the file's name."""

    def __init__(self, reason: str, detail: str, remedy: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.remedy = remedy

    def of(self, file: str) -> Problem:
        """The problem of `file`."""
        return Problem(file=file, reason=self.reason, detail=self.detail, remedy=self.remedy)
