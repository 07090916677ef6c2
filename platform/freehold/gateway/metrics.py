"""Numbers for Prometheus (text format 0.0.4). Written by app.py, read through private.py."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freehold.wire.usage import UsageRecord

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Histogram:
    """Cumulative buckets of seconds."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_SECONDS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Notes one duration."""
        self._counts[bisect_left(_SECONDS, seconds)] += 1
        self._sum += seconds

    def lines(self, name: str) -> list[str]:
        """The exposition."""
        lines, total = [f"# TYPE {name} histogram"], 0
        for bound, count in zip((*map(str, _SECONDS), "+Inf"), self._counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{name}_sum {self._sum:.6f}", f"{name}_count {total}"]


class Metrics:
    """What is counted. Labels are few on purpose: never a tenant or a model, whose number is not bounded.

    Attributes:
        requests: (path, status) → answers.
        tokens: kind (prompt, cached, completion) → billed tokens.
        outcomes: outcome → settled requests.
        errors: code → answers with an error of ours. The codes are few and ours.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.tokens: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.first_token = Histogram()
        self.duration = Histogram()

    def settled(self, record: UsageRecord) -> None:
        """Counts what was billed."""
        tokens = self.tokens
        tokens["prompt"] += record.prompt_tokens
        tokens["cached"] += record.cached_tokens
        tokens["completion"] += record.completion_tokens
        if record.first_token_ms is not None:
            self.first_token.observe(record.first_token_ms / 1000)
        self.duration.observe(record.duration_ms / 1000)

    def render(self, gauges: Mapping[str, float]) -> bytes:
        """The exposition. `gauges` are values of this moment by name."""
        lines = ["# TYPE freehold_gateway_requests_total counter"]
        for (path, status), count in sorted(self.requests.items()):
            lines.append(f'freehold_gateway_requests_total{{path="{path}",status="{status}"}} {count}')
        lines.append("# TYPE freehold_gateway_tokens_total counter")
        lines += [f'freehold_gateway_tokens_total{{kind="{kind}"}} {n}' for kind, n in sorted(self.tokens.items())]
        lines.append("# TYPE freehold_gateway_settled_total counter")
        lines += [
            f'freehold_gateway_settled_total{{outcome="{name}"}} {n}' for name, n in sorted(self.outcomes.items())
        ]
        lines.append("# TYPE freehold_gateway_errors_total counter")
        lines += [f'freehold_gateway_errors_total{{code="{code}"}} {n}' for code, n in sorted(self.errors.items())]
        lines += self.first_token.lines("freehold_gateway_first_token_seconds")
        lines += self.duration.lines("freehold_gateway_request_seconds")
        for name, value in gauges.items():
            lines += [f"# TYPE freehold_gateway_{name} gauge", f"freehold_gateway_{name} {value:g}"]
        return ("\n".join(lines) + "\n").encode()
