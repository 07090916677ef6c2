"""Malformed safetensors files by the thousand: none gets through, and on damaged ones two readers agree."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import deserialize

from freehold.registry.inspection import weights
from freehold.registry.inspection.problems import Malformed
from freehold.registry.inspection.run import InspectedFile, inspect_batch
from tests.unit.registry import malformations, safetensors_reference


def _taken(content: bytes) -> bool:
    try:
        weights.read_header(io.BytesIO(content), len(content))
    except Malformed:
        return False
    return True


@pytest.mark.parametrize("kind", sorted(malformations.KINDS))
def test_a_malformed_file_is_refused(kind: str) -> None:
    chance = random.Random(kind)
    taken = [content for _ in range(50) if _taken(content := malformations.malformed(chance, kind))]
    assert taken == []


def test_the_files_the_malformations_start_from_are_taken() -> None:
    chance = random.Random(1)
    for _ in range(200):
        content = malformations.framed(*malformations.valid(chance))
        assert _taken(content)
        assert safetensors_reference.accepts(content)


@given(st.integers(min_value=0), st.lists(st.tuples(st.integers(0), st.integers(1, 255)), min_size=1, max_size=3))
def test_on_a_damaged_file_we_say_what_a_strict_reference_says(seed: int, flips: list[tuple[int, int]]) -> None:
    content = bytearray(malformations.framed(*malformations.valid(random.Random(seed))))
    for position, flip in flips:
        content[position % len(content)] ^= flip
    assert _taken(bytes(content)) == safetensors_reference.accepts(bytes(content))


@given(st.integers(min_value=0), st.integers(min_value=0), st.integers(0, 255))
def test_what_we_take_the_engines_reader_reads_alike(seed: int, position: int, flip: int) -> None:
    content = bytearray(malformations.framed(*malformations.valid(random.Random(seed), least=0)))
    content[position % len(content)] ^= flip
    try:
        ours = weights.read_header(io.BytesIO(bytes(content)), len(content))
    except Malformed:
        return
    theirs = deserialize(bytes(content))  # type: ignore[no-untyped-call]
    read = {name: (entry["dtype"], tuple(entry["shape"]), len(entry["data"])) for name, entry in theirs}
    assert {t.name: (t.dtype, t.shape, t.end - t.begin) for t in ours} == read


@pytest.mark.parametrize("dtype", sorted(weights.BITS))
def test_every_dtype_is_one_the_engines_reader_knows(dtype: str) -> None:
    size = weights.BITS[dtype]
    header = {"a": {"dtype": dtype, "shape": [8], "data_offsets": [0, size]}}
    content = malformations.framed(header, size)
    assert _taken(content)
    assert safetensors_reference.accepts(content)


def test_a_batch_is_read_by_one_child_whose_memory_stays(tmp_path: Path) -> None:
    chance = random.Random(2)
    trees = []
    for number in range(300):
        good = number % 10 == 0
        kind = chance.choice(sorted(malformations.KINDS))
        content = malformations.framed(*malformations.valid(chance)) if good else malformations.malformed(chance, kind)
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(content)
        trees.append([InspectedFile(path="model.safetensors", location=path, size=len(content))])
    reports = inspect_batch(trees)
    assert [not report.problems for report in reports] == [number % 10 == 0 for number in range(300)]
    assert reports[-1].memory - reports[20].memory <= 8 * 1024 * 1024


def test_a_tree_that_ends_the_child_is_refused_and_the_others_are_not(tmp_path: Path) -> None:
    good, bomb = tmp_path / "good", tmp_path / "bomb"
    good.write_bytes(malformations.framed(*malformations.valid(random.Random(3))))
    bomb.write_bytes(b'{"a":[' + b'"aaaaaaaa",' * 1_400_000 + b"1]}")
    hungry = [InspectedFile(path=f"{i}.json", location=bomb, size=bomb.stat().st_size) for i in range(8)]
    fine = [InspectedFile(path="model.safetensors", location=good, size=good.stat().st_size)]
    reports = inspect_batch([fine, hungry, fine])
    assert [[problem.reason for problem in report.problems] for report in reports] == [[], ["inspection_failed"], []]
    assert len(reports[2].tensors["model.safetensors"]) == reports[2].facts["tensors"]
