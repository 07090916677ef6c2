"""Every tensor of a model, kept by the content of the file it lies in. Written by commits.py, read by selectors."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from freehold.db.rls import tenant_scope
from freehold.registry.models import ModelFile, WeightHeader

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping, Sequence

    from freehold.registry.models import Revision

Row = list[Any]  # name, dtype, shape, begin, end (inspection.run.Report)
ByPath = dict[str, list[Row]]


@dataclass(frozen=True, kw_only=True)
class TensorFact:
    """One tensor of a revision. `bytes` is what it takes in its file."""

    file: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int


def keep(tenant_id: uuid.UUID, headers: Mapping[str, Sequence[Row]]) -> None:
    """Keeps the tensors of weight files, by sha256; what is known already stays. Part of a commit's transaction."""
    known = set(WeightHeader.objects.filter(sha256__in=list(headers)).values_list("sha256", flat=True))
    WeightHeader.objects.bulk_create(
        [
            WeightHeader(
                tenant_id=tenant_id,
                sha256=sha256,
                tensors=zlib.compress(json.dumps(rows, separators=(",", ":")).encode(), level=6),
                count=len(rows),
                bytes=sum(end - begin for _, _, _, begin, end in rows),
            )
            for sha256, rows in headers.items()
            if sha256 not in known
        ],
        ignore_conflicts=True,
        batch_size=50,
    )


@dataclass(frozen=True, kw_only=True)
class TensorPage:
    """A run of a revision's tensors. `total` and `total_bytes` are of all that match, shown or not; `known` are all."""

    tensors: list[TensorFact]
    total: int
    total_bytes: int
    known: int


def tensor_page(
    *, revision: Revision, contains: str = "", file: str = "", offset: int = 0, limit: int = 200
) -> TensorPage:
    """Tensors whose name holds `contains` (whatever its case), of one weight file or of all, by file and offset.

    One file's tensors are in memory at a time, and of files that lie outside of the page only their count is read,
    unless names are searched.
    """
    shown: list[TensorFact] = []
    total = total_bytes = 0
    wanted = contains.lower()
    with tenant_scope(revision.tenant_id):
        weights = ModelFile.objects.filter(revision_id=revision.pk, path__endswith=".safetensors")
        if file:
            weights = weights.filter(path=file)
        files = list(weights.order_by("path").values_list("path", "sha256"))
        known = WeightHeader.objects.filter(sha256__in={sha256 for _, sha256 in files})
        sums = {sha256: (count, size) for sha256, count, size in known.values_list("sha256", "count", "bytes")}
        for path, sha256 in files:
            if sha256 not in sums:
                continue
            count, size = sums[sha256]
            if not wanted and (total + count <= offset or total >= offset + limit):
                total, total_bytes = total + count, total_bytes + size
                continue
            for name, dtype, shape, begin, end in _rows(sha256):
                if wanted not in name.lower():
                    continue
                if offset <= total < offset + limit:
                    shown.append(TensorFact(file=path, name=name, dtype=dtype, shape=tuple(shape), bytes=end - begin))
                total, total_bytes = total + 1, total_bytes + end - begin
    known_count = sum(sums[sha256][0] for _, sha256 in files if sha256 in sums)
    return TensorPage(tensors=shown, total=total, total_bytes=total_bytes, known=known_count)


def _rows(sha256: str) -> list[Row]:
    rows: list[Row] = json.loads(
        zlib.decompress(WeightHeader.objects.values_list("tensors", flat=True).get(sha256=sha256))
    )
    return rows
