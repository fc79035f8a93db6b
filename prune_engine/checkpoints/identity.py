"""Which request a checkpoint belongs to: a digest of the spec, the model and the data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx

from prune_engine.spec import PruneSpec


def digest_of(
    spec: PruneSpec,
    model: Path | str | onnx.ModelProto,
    data: Path | str | Mapping[str, np.ndarray],
    tokenizer: Path | None = None,
) -> str:
    """Of what makes two requests the same: the contents of files, the names of named data sets."""
    digest = hashlib.sha256(spec.model_dump_json().encode())
    for part in (*_of_model(model), *_of_data(data), b"" if tokenizer is None else _of_file(tokenizer)):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def _of_model(model: Path | str | onnx.ModelProto) -> Iterator[bytes]:
    if not isinstance(model, onnx.ModelProto):
        yield _of_file(Path(model)) if Path(model).is_file() else str(model).encode()
        return
    # Part by part, as a message over 2 GiB cannot be serialised.
    for part in (*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output):
        yield part.SerializeToString(deterministic=True)


def _of_data(data: Path | str | Mapping[str, np.ndarray]) -> Iterator[bytes]:
    if not isinstance(data, Mapping):
        yield _of_file(Path(data)) if Path(data).is_file() else str(data).encode()
        return
    for name, array in sorted(data.items()):
        rows = np.asarray(array)
        yield f"{name} {rows.dtype} {rows.shape}".encode()
        yield rows.tobytes() if rows.dtype != object else repr(rows.tolist()).encode()


def _of_file(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
