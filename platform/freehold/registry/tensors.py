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
            )
            for sha256, rows in headers.items()
            if sha256 not in known
        ],
        ignore_conflicts=True,
        batch_size=50,
    )


def tensor_list(*, revision: Revision) -> list[TensorFact]:
    """Every tensor of a revision, by file and offset. Empty for revisions without safetensors."""
    with tenant_scope(revision.tenant_id):
        files = dict(
            ModelFile.objects.filter(revision_id=revision.pk, path__endswith=".safetensors").values_list(
                "path", "sha256"
            )
        )
        headers = dict(WeightHeader.objects.filter(sha256__in=set(files.values())).values_list("sha256", "tensors"))
    return [
        TensorFact(file=path, name=name, dtype=dtype, shape=tuple(shape), bytes=end - begin)
        for path, sha256 in sorted(files.items())
        if sha256 in headers
        for name, dtype, shape, begin, end in json.loads(zlib.decompress(headers[sha256]))
    ]
