"""Numbers for Prometheus (text format 0.0.4). Written by app.py, read through private.py."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freehold.wire.usage import UsageRecord

_BOUNDS: Final = (50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000)  # milliseconds


class Histogram:
    """Cumulative buckets of seconds."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_BOUNDS) + 1)
        self._sum = 0  # milliseconds

    def observe(self, milliseconds: int) -> None:
        """Notes one duration."""
        self._counts[bisect_left(_BOUNDS, milliseconds)] += 1
        self._sum += milliseconds

    def lines(self, name: str) -> list[str]:
        """The exposition."""
        lines, total = [f"# TYPE {name} histogram"], 0
        for bound, count in zip([*(str(bound / 1000) for bound in _BOUNDS), "+Inf"], self._counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{name}_sum {self._sum / 1000:.3f}", f"{name}_count {total}"]


class Metrics:
    """What is counted. Labels are few on purpose: never a tenant or a model, whose number is not bounded.

    Attributes:
        requests: (path, status) → answers.
        outcomes: outcome → settled requests.
        errors: code → answers with an error of ours. The codes are few and ours.
    """

    def __init__(self) -> None:
        self.requests: dict[tuple[str, int], int] = {}
        self.outcomes: dict[str, int] = {}
        self.errors: dict[str, int] = {}
        self._prompt = self._cached = self._completion = 0
        self._first_token = Histogram()
        self._duration = Histogram()

    def answered(self, path: str, status: int, code: str | None) -> None:
        """Counts an answer; `code` is that of an error."""
        answer = (path, status)
        self.requests[answer] = self.requests.get(answer, 0) + 1
        if code is not None:
            self.errors[code] = self.errors.get(code, 0) + 1

    def settled(self, outcome: str, record: UsageRecord | None) -> None:
        """Counts a request that was opened, and what was billed of it."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        if record is None:
            return
        self._prompt += record.prompt_tokens
        self._cached += record.cached_tokens
        self._completion += record.completion_tokens
        if record.first_token_ms is not None:
            self._first_token.observe(record.first_token_ms)
        self._duration.observe(record.duration_ms)

    def render(self, gauges: Mapping[str, float]) -> bytes:
        """The exposition. `gauges` are values of this moment by name."""
        lines = ["# TYPE freehold_gateway_requests_total counter"]
        for (path, status), count in sorted(self.requests.items()):
            lines.append(f'freehold_gateway_requests_total{{path="{path}",status="{status}"}} {count}')
        lines.append("# TYPE freehold_gateway_tokens_total counter")
        tokens = {"cached": self._cached, "completion": self._completion, "prompt": self._prompt}
        lines += [f'freehold_gateway_tokens_total{{kind="{kind}"}} {n}' for kind, n in tokens.items()]
        lines.append("# TYPE freehold_gateway_settled_total counter")
        lines += [
            f'freehold_gateway_settled_total{{outcome="{name}"}} {n}' for name, n in sorted(self.outcomes.items())
        ]
        lines.append("# TYPE freehold_gateway_errors_total counter")
        lines += [f'freehold_gateway_errors_total{{code="{code}"}} {n}' for code, n in sorted(self.errors.items())]
        lines += self._first_token.lines("freehold_gateway_first_token_seconds")
        lines += self._duration.lines("freehold_gateway_request_seconds")
        for name, value in gauges.items():
            lines += [f"# TYPE freehold_gateway_{name} gauge", f"freehold_gateway_{name} {value:g}"]
        return ("\n".join(lines) + "\n").encode()
