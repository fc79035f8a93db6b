"""A `.zip` of one `.onnx` file and the data files with its weights: read safely, written alike."""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import onnx
import psutil
from onnx import TensorProto

from prune_engine.errors import ExternalDataError, ModelError, ModelUnsafeError
from prune_engine.formats.onnx_file import check_model, decode
from prune_engine.formats.skeleton import Place, each_tensor, skeleton, tensor_bytes
from prune_engine.formats.storage import Storage, data_pieces, settled, to_bytes

DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    UnicodeDecodeError,
    IndexError,
)
"""What `zipfile` raises on damaged archives."""

_MAX_MEMBERS = 10_000
_LARGEST_RATIO = 200  # unpacked over packed; a model with 1 % of its weights left packs to about a fiftieth
_SMALL = 64 << 20  # bytes that any archive may unpack to
_PIECE = 1 << 24
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)  # on Windows, in any folder
_CUT_OFF = "it is cut off or damaged. Send it again."


def read_bundle(path: Path) -> tuple[onnx.ModelProto, Storage, tuple[str, ...]]:
    """The model in a zip with all its tensors inside, how its files were laid out, and warnings.

    Raises:
        ModelUnsafeError: a member is a link or leads out of the archive, or it unpacks to far too much.
        ExternalDataError: a data file that the model names is not there, or is too short.
        ModelError: not exactly one `.onnx` file, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive, path.stat().st_size)
    except DAMAGED as error:
        reason = str(error).strip() or type(error).__name__
        raise ModelError(f"The zip archive with the model cannot be read ({reason}): {_CUT_OFF}") from error


def write_bundle(proto: onnx.ModelProto, path: Path, storage: Storage) -> None:
    """Write a zip with the same members: every tensor where it was, stored without compression."""
    storage = settled(proto, storage)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        archive.writestr(storage.model, to_bytes(skeleton(proto, storage.places)))
        for location in storage.sizes:
            with archive.open(storage.path_of(location), "w", force_zip64=True) as stream:
                for piece in data_pieces(proto, storage, location):
                    stream.write(piece)


def _read(archive: zipfile.ZipFile, packed: int) -> tuple[onnx.ModelProto, Storage, tuple[str, ...]]:
    members = _members(archive, packed)
    model = _the_model(members)
    proto = decode(archive.read(members[model]))
    storage = Storage(model, *_places(proto, model, members))
    for location in storage.sizes:
        _fill(proto, storage, location, archive, members[storage.path_of(location)])
    check_model(proto)
    used = {model, *(storage.path_of(location) for location in storage.sizes)}
    rest = sorted(set(members) - used)
    if not rest:
        return proto, storage, ()
    shown = ", ".join(rest[:5]) + (f" and {len(rest) - 5} more" if len(rest) > 5 else "")
    return proto, storage, (f"The zip holds files that the model does not use; they are left out: {shown}.",)


def _members(archive: zipfile.ZipFile, packed: int) -> dict[str, zipfile.ZipInfo]:
    """The archive's files by name, after everything that its directory can tell has been looked at."""
    entries = archive.infolist()
    if len(entries) > _MAX_MEMBERS:
        raise ModelUnsafeError(f"The zip has {len(entries)} members; at most {_MAX_MEMBERS} are read.")
    found: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        name = entry.filename
        if _escapes(name):
            raise ModelUnsafeError(f"The zip has a member whose name leads out of it: {name[:100]!r}.")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise ModelUnsafeError(f"The zip has a link, {name[:100]!r}. Pack the file itself.")
        if entry.flag_bits & 1:
            raise ModelError(f"The zip is encrypted ({name[:100]!r}). Send it without a password.")
        if entry.is_dir():
            continue
        if name in found:
            raise ModelError(f"The zip has two members named {name[:100]!r}. Pack it again.")
        found[name] = entry
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > max(packed * _LARGEST_RATIO, _SMALL):
        raise ModelUnsafeError(f"The zip unpacks from {packed} to {unpacked} bytes, which no model does.")
    available = psutil.virtual_memory().available
    if unpacked > available:
        raise ModelError(
            f"The zip unpacks to {unpacked} bytes, and {available} bytes of memory are free here. "
            "Send the model as float16, or use a worker with more memory."
        )
    return found


def _escapes(name: str) -> bool:
    """Whether a name leads out of the folder that a zip is unpacked into, there or on another system."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if any(_DEVICE.fullmatch(part) for part in parts):
        return True
    return name.startswith(("/", "\\")) or ".." in parts or "\0" in name or ":" in (parts or ("",))[0]


def _the_model(members: dict[str, zipfile.ZipInfo]) -> str:
    models = [name for name in members if name.lower().endswith(".onnx") and not name.startswith("__MACOSX/")]
    if not models:
        raise ModelError("The zip has no .onnx file in it. Send a zip of model.onnx and its data files.")
    if len(models) > 1:
        named = ", ".join(sorted(models)[:8])
        raise ModelError(
            f"The zip has {len(models)} ONNX files: {named}. Send a zip of one of them and its data files."
        )
    return models[0]


def _places(
    proto: onnx.ModelProto, model: str, members: dict[str, zipfile.ZipInfo]
) -> tuple[dict[str, Place], dict[str, int]]:
    """Where the tensors lie, compared with what is there before anything is read."""
    places: dict[str, Place] = {}
    sizes: dict[str, int] = {}
    for key, tensor in each_tensor(proto):
        if tensor.data_location != TensorProto.EXTERNAL and not tensor.external_data:
            continue
        said = {entry.key: entry.value for entry in tensor.external_data}
        location, wanted = said.get("location", ""), tensor_bytes(tensor)
        if any(size < 0 for size in tensor.dims):
            raise ModelError(f"The tensor {key!r} has a negative size. The file is damaged.")
        if not location or _escapes(location):
            raise ModelUnsafeError(
                f"The tensor {key!r} keeps its values at {location[:100]!r}, which is no file of the zip."
            )
        name = str(PurePosixPath(model).parent / location)
        if name not in members:
            raise ExternalDataError(
                f"The zip has no file {name!r}, in which {model} keeps the values of {key!r}. "
                "Pack it too, next to the model."
            )
        size = members[name].file_size
        offset, length = _number(said, "offset", key, 0), _number(said, "length", key, wanted)
        if length != wanted:
            raise ModelError(
                f"The tensor {key!r} has the shape {list(tensor.dims)}, which takes {wanted} bytes, but "
                f"{length} of {name!r} are said to be its values. The file is damaged."
            )
        if offset + length > size:
            raise ExternalDataError(
                f"{name!r} has {size} bytes, but the values of {key!r} should be at {offset} to "
                f"{offset + length}. The data file is cut off, or belongs to another model."
            )
        places[key] = Place(location, offset, length)
        sizes[location] = size
    _refuse_overlaps(places)
    return places, sizes


def _number(said: dict[str, str], field: str, key: str, default: int) -> int:
    text = said.get(field, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ModelError(f"The tensor {key!r} says {text[:40]!r} for its {field}. The file is damaged.")
    return int(text)


def _refuse_overlaps(places: dict[str, Place]) -> None:
    """Two tensors may share a place; half a place is a mistake."""
    before: tuple[str, Place] | None = None
    for key, place in sorted(places.items(), key=lambda item: (item[1].location, item[1].offset)):
        if (
            before
            and place != before[1]
            and place.location == before[1].location
            and place.offset < before[1].offset + before[1].length
            and place.length
        ):
            raise ModelError(f"The values of {before[0]!r} and {key!r} overlap in {place.location!r}.")
        before = key, place


def _fill(
    proto: onnx.ModelProto, storage: Storage, location: str, archive: zipfile.ZipFile, entry: zipfile.ZipInfo
) -> None:
    """Takes the tensors of one data file out of it, in one pass to its end, where its checksum is."""
    wanted = {key: place for key, place in storage.places.items() if place.location == location}
    tensors = {key: tensor for key, tensor in each_tensor(proto) if key in wanted}
    at, values, last = 0, b"", None
    with _opened(archive, entry) as stream:
        for key, place in sorted(wanted.items(), key=lambda item: item[1].offset):
            if place != last:
                _skip(stream, place.offset - at)
                values = stream.read(place.length)
                if len(values) < place.length:
                    raise EOFError(f"{entry.filename} ends early")
                at, last = place.offset + place.length, place
            tensor = tensors[key]
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.raw_data = values
        _skip(stream, entry.file_size - at)
        if stream.read(1):
            raise EOFError(f"{entry.filename} is longer than the directory says")


@contextmanager
def _opened(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[zipfile.ZipExtFile]:
    with archive.open(entry) as stream:
        assert isinstance(stream, zipfile.ZipExtFile)  # noqa: S101  # `open` says IO[bytes]
        yield stream


def _skip(stream: zipfile.ZipExtFile, count: int) -> None:
    while count > 0:
        piece = stream.read(min(count, _PIECE))
        if not piece:
            raise EOFError(f"{stream.name} ends early")
        count -= len(piece)
