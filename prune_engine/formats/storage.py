"""How models are laid out in files: the only place that serialises them.

In memory a model always has its tensors inside. One protobuf message ends at 2 GiB, so a larger model is
written as a small `.onnx` file and a data file beside it (ONNX's "external data"), a tensor at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import EncodeError
from onnx import GraphProto, TensorProto

from prune_engine.errors import ModelError
from prune_engine.formats.order import computing_order
from prune_engine.formats.skeleton import Place, each_tensor, payload, skeleton, tensor_bytes

LARGEST_MESSAGE = 2**31 - 1
"""Bytes that one protobuf message may have."""

_MARGIN = 64 << 20  # for everything that is not a tensor
_SMALLEST_OUTSIDE = 1024  # bytes; smaller tensors stay inside, where onnxruntime wants shapes and scalars
_ALIGNMENT = 4096  # so that runtimes can map the file
_PIECE = 1 << 24
_CHECKED_INSIDE = 1 << 20  # bytes; onnx's checker is not shown the values of larger tensors


@dataclass(frozen=True)
class Storage:
    """The files of a model that is more than one file.

    Args:
        model: the `.onnx` file, as a relative path.
        places: which tensors (keys of `each_tensor`) lie in which data file, where. Locations are relative to
        the folder of `model`.
        sizes: bytes of each data file.
    """

    model: str
    places: Mapping[str, Place]
    sizes: Mapping[str, int]

    def path_of(self, location: str) -> str:
        """A data file's path relative to what `model` is relative to."""
        return str(PurePosixPath(self.model).parent / location)


def needs_files(proto: onnx.ModelProto) -> bool:
    """Whether the model is too large for one protobuf message."""
    return sum(tensor_bytes(tensor) for _, tensor in each_tensor(proto)) > LARGEST_MESSAGE - _MARGIN


def to_bytes(proto: onnx.ModelProto) -> bytes:
    """The model as one ONNX file.

    Raises:
        ModelError: it has more than 2 GiB; `split` and `data_pieces` write such a one.
    """
    try:
        contents: bytes = proto.SerializeToString()
    except EncodeError as error:
        raise ModelError(
            "The model has more than 2 GiB outside of its initializers, which ONNX cannot store. "
            "Save it with its weights as initializers, or as float16."
        ) from error
    return contents


def split(proto: onnx.ModelProto, model: str = "model.onnx") -> Storage:
    """A layout with every large initializer in one data file, `<model>.data`, at aligned offsets."""
    location = f"{PurePosixPath(model).name}.data"
    places: dict[str, Place] = {}
    end = 0
    for tensor in proto.graph.initializer:
        length = tensor_bytes(tensor)
        if length < _SMALLEST_OUTSIDE or tensor.data_type == TensorProto.STRING:
            continue
        begin = -(-end // _ALIGNMENT) * _ALIGNMENT
        places[tensor.name] = Place(location, begin, length)
        end = begin + length
    return Storage(model, places, {location: end})


def data_pieces(proto: onnx.ModelProto, storage: Storage, location: str) -> Iterator[bytes | memoryview]:
    """The contents of one data file, a piece at a time; zeros where no tensor lies."""
    wanted = {key: place for key, place in storage.places.items() if place.location == location}
    tensors = {key: tensor for key, tensor in each_tensor(proto) if key in wanted}
    at = 0
    for key, place in sorted(wanted.items(), key=lambda item: item[1].offset):
        if place.offset < at:
            continue  # shares the place of the one before it
        yield from _zeros(place.offset - at)
        yield memoryview(payload(tensors[key]))
        at = place.offset + place.length
    yield from _zeros(storage.sizes[location] - at)


def settled(proto: onnx.ModelProto, storage: Storage) -> Storage:
    """The layout with tensors that shared a place and have become different each in a place of its own."""
    tensors = dict(each_tensor(proto))
    taken: dict[Place, str] = {}
    places, sizes = dict(storage.places), dict(storage.sizes)
    for key, place in storage.places.items():
        first = taken.setdefault(place, key)
        if first == key or payload(tensors[first]) == payload(tensors[key]):
            continue
        begin = -(-sizes[place.location] // _ALIGNMENT) * _ALIGNMENT
        places[key] = Place(place.location, begin, place.length)
        sizes[place.location] = begin + place.length
    return Storage(storage.model, places, sizes)


def write(proto: onnx.ModelProto, path: Path, storage: Storage | None = None) -> None:
    """Write the model to `path`, and what does not fit into one file to data files beside it."""
    if storage is None:
        if not needs_files(proto):
            path.write_bytes(to_bytes(proto))
            return
        storage = split(proto, path.name)
    path.write_bytes(to_bytes(skeleton(proto, storage.places)))
    for location in storage.sizes:
        with (path.parent / location).open("wb") as stream:
            for piece in data_pieces(proto, storage, location):
                stream.write(piece)


def read(path: Path) -> onnx.ModelProto:
    """What `write` wrote. Opens the files that the model names, so only for models of our own."""
    return onnx.load(path)


def pieces(proto: onnx.ModelProto, storage: Storage | None = None) -> Iterator[bytes | memoryview]:
    """Every byte of the model's files, the `.onnx` file first, without all of them in memory at once."""
    if storage is None and not needs_files(proto):
        view = memoryview(to_bytes(proto))
        for start in range(0, len(view), _PIECE):
            yield view[start : start + _PIECE]
        return
    storage = storage or split(proto)
    yield to_bytes(skeleton(proto, storage.places))
    for location in storage.sizes:
        for piece in data_pieces(proto, storage, location):
            for start in range(0, len(piece), _PIECE):
                yield piece[start : start + _PIECE]


def digest(proto: onnx.ModelProto) -> tuple[str, int]:
    """sha256 and number of the bytes that the model has as files."""
    found, size = hashlib.sha256(), 0
    for piece in pieces(proto):
        found.update(piece)
        size += len(piece)
    return found.hexdigest(), size


@contextlib.contextmanager
def loadable(proto: onnx.ModelProto) -> Iterator[bytes | str]:
    """What `onnxruntime.InferenceSession` takes: the bytes, or over 2 GiB the path of a file.

    The file is there until the block ends; a session that was made in it keeps what it needs.
    """
    if not needs_files(proto):
        yield to_bytes(proto)
        return
    with tempfile.TemporaryDirectory(prefix="prunery-model-") as folder:
        path = Path(folder) / "model.onnx"
        write(proto, path)
        yield str(path)


def check(proto: onnx.ModelProto) -> None:
    """Run onnx's checker on everything but the values of large tensors, for which it would copy the model.

    Nodes in any order are fine: onnxruntime sorts them, and its own float16 converter writes them unsorted.

    Raises:
        onnx.checker.ValidationError: the checker's reason.
    """
    large = {
        tensor.name: Place("", 0, 0)
        for tensor in proto.graph.initializer
        if tensor_bytes(tensor) > _CHECKED_INSIDE
    }
    bones = skeleton(proto, large) if large else proto
    if large:
        _initializers_as_inputs(bones.graph, set(large))
    try:
        onnx.checker.check_model(bones)
    except onnx.checker.ValidationError as error:
        ordered = _ordered(bones) if "topologically sorted" in str(error) else None
        if ordered is None:
            raise
        onnx.checker.check_model(ordered)


def _ordered(proto: onnx.ModelProto) -> onnx.ModelProto | None:
    """A copy whose nodes come after those that they read from; None where there is no such order."""
    graph = proto.graph
    known = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    known |= {sparse.values.name for sparse in graph.sparse_initializer}
    try:
        order = computing_order(graph, known)
    except ModelError:
        return None
    ordered = onnx.ModelProto()
    ordered.CopyFrom(proto)
    del ordered.graph.node[:]
    ordered.graph.node.extend(graph.node[index] for index in order)
    return ordered


def _initializers_as_inputs(graph: GraphProto, names: set[str]) -> None:
    """Declares values whose tensors are not here, so that the checker knows their names, types and shapes."""
    declared = {value.name for value in graph.input}
    kept = []
    for tensor in graph.initializer:
        if tensor.name not in names:
            kept.append(tensor)
        elif tensor.name not in declared:
            graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    inside = [TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
    del graph.initializer[:]
    graph.initializer.extend(inside)


def _zeros(count: int) -> Iterator[bytes]:
    while count > 0:
        yield bytes(min(count, _PIECE))
        count -= _PIECE
