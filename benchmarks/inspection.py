"""The inspection: how fast it reads large headers, and what it lets through of broken files.

Figures to reach: a header of 10,000 tensors inspected within 1 s, the child's start included; 10,000 structured
malformations all refused; for 10,000 random byte flips the verdict of a strict reference reader; no crash, and no more
than 8 MiB of growth in the child's memory over each batch.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.onebox import Figure
from freehold.registry.inspection.run import InspectedFile, Report, inspect, inspect_batch
from tests.unit.registry import malformations, safetensors_reference

FILES = 10_000
_WARM = 100  # files after which the child's memory is what it works with
_MIB = 1024 * 1024


def main() -> None:
    """Prints the table."""
    found = figures()
    width = max(len(figure.name) for figure in found)
    for figure in found:
        print(f"{figure.name:<{width}}  {figure.value:>12}  {figure.goal}")


def figures() -> list[Figure]:
    """Every figure, in about a minute."""
    with tempfile.TemporaryDirectory() as folder:
        return [*_large(Path(folder)), *_malformations(Path(folder)), *_flips(Path(folder))]


def _large(folder: Path) -> list[Figure]:
    rows = []
    for tensors, goal in ((10_000, "≤ 1 s"), (80_000, "")):  # with names as long as these, 8 MiB hold no more
        header, position = {}, 0
        for number in range(tensors):
            name = f"layers.{number // 400}.mlp.experts.{number % 400}.up_proj.weight"
            header[name] = {"dtype": "U8", "shape": [4], "data_offsets": [position, position + 4]}
            position += 4
        path = folder / "large.safetensors"
        path.write_bytes(malformations.framed(json.dumps(header, separators=(",", ":")), position))
        question = [InspectedFile(path="model.safetensors", location=path, size=path.stat().st_size)]
        times, report = [], inspect(question)
        for _ in range(5):
            started = time.perf_counter()
            report = inspect(question)
            times.append(time.perf_counter() - started)
        assert not report.problems, report.problems
        assert len(report.tensors["model.safetensors"]) == tensors
        rows.append(Figure(f"header of {tensors:,} tensors inspected, p50 of 5", f"{median(times):.2f} s", goal))
        rows.append(Figure("  the child's memory at its highest", f"{report.memory / _MIB:.0f} MiB", "≤ 512 MiB"))
    return rows


def _malformations(folder: Path) -> list[Figure]:
    chance = random.Random(4)
    kinds = sorted(malformations.KINDS)
    contents = [malformations.malformed(chance, kinds[number % len(kinds)]) for number in range(FILES)]
    reports, seconds = _inspected(folder, contents)
    refused = sum(bool(report.problems) for report in reports)
    return [
        Figure(f"malformations of {len(kinds)} kinds refused", f"{refused:,} / {FILES:,}", f"{FILES:,}"),
        *_batch(reports, seconds),
    ]


def _flips(folder: Path) -> list[Figure]:
    chance = random.Random(5)
    contents = []
    for _ in range(FILES):
        content = bytearray(malformations.framed(*malformations.valid(chance)))
        content[chance.randrange(len(content))] ^= chance.randrange(1, 256)
        contents.append(bytes(content))
    reports, seconds = _inspected(folder, contents)
    pairs = [
        (not report.problems, safetensors_reference.accepts(content))
        for report, content in zip(reports, contents, strict=True)
    ]
    agreed = sum(ours == theirs for ours, theirs in pairs)
    taken = sum(ours for ours, _ in pairs)
    return [
        Figure("byte flips judged as the reference does", f"{agreed:,} / {FILES:,}", f"{FILES:,}"),
        Figure("  of them still valid (most flips hit the tensors' bytes)", f"{taken:,}", ""),
        *_batch(reports, seconds),
    ]


def _inspected(folder: Path, contents: list[bytes]) -> tuple[list[Report], float]:
    trees = []
    for number, content in enumerate(contents):
        path = folder / f"{number}.safetensors"
        path.write_bytes(content)
        trees.append([InspectedFile(path="model.safetensors", location=path, size=len(content))])
    started = time.perf_counter()
    return inspect_batch(trees), time.perf_counter() - started


def _batch(reports: list[Report], seconds: float) -> list[Figure]:
    crashes = sum(problem.reason == "inspection_failed" for report in reports for problem in report.problems)
    growth = (reports[-1].memory - reports[_WARM].memory) / _MIB
    return [
        Figure("  crashes", f"{crashes}", "0"),
        Figure("  growth of the child's memory over the batch", f"{growth:.1f} MiB", "≤ 8 MiB"),
        Figure("  time for the batch, in one child", f"{seconds:.1f} s", ""),
    ]


if __name__ == "__main__":
    main()
