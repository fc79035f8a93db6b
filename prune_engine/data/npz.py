"""Reading .npz and .npy files from strangers: headers before contents, no pickle, bounded memory.

A 16-byte .npy header can ask for hundreds of GiB, and a small .npz can unpack to far more than its size, so
each array's shape and dtype are compared with the bytes that the archive says it has before anything is
allocated.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from prune_engine.data.limits import ARCHIVE_ERRORS, check_unpacked
from prune_engine.data.raw import Array
from prune_engine.errors import DataEmptyError, DataError, DataFormatError, DataUnsafeError, PruneError

_MAX_HEADER = 10_000
_MAX_ARRAYS = 1_000
_MAX_AXES = 8


def read_npz(path: Path) -> dict[str, Array]:
    """All arrays of an .npz file by name.

    Raises:
        DataUnsafeError: object arrays, encrypted members, or contents beyond what this machine can hold.
        DataFormatError: not an .npz file, or a member that is no array.
        DataError: damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            if not members:
                raise DataEmptyError("the .npz file holds no arrays")
            _check_members(members)
            arrays = {}
            for info in members:
                with archive.open(info) as stream:
                    name = info.filename.removesuffix(".npy")
                    arrays[name] = read_array(stream, info.file_size, name)
            return arrays
    except ARCHIVE_ERRORS as error:
        raise DataError(f"the .npz file is damaged: {error}; save it again with numpy.savez") from None


def read_headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """(shape, dtype) of every array of an .npz file, without its contents; errors as `read_npz`."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            _check_members(members)
            headers = {}
            for info in members:
                with archive.open(info) as stream:
                    name = info.filename.removesuffix(".npy")
                    shape, _, dtype, _ = _read_header(stream, name)
                    headers[name] = shape, dtype
            return headers
    except ARCHIVE_ERRORS as error:
        raise DataError(f"the .npz file is damaged: {error}; save it again with numpy.savez") from None


def read_npy(path: Path) -> Array:
    """The array of an .npy file; errors as `read_npz`."""
    with path.open("rb") as stream:
        return read_array(stream, path.stat().st_size, path.stem)


def read_array(stream: IO[bytes], size: int, name: str) -> Array:
    """Read one array whose whole representation has `size` bytes; the header is checked first."""
    shape, fortran, dtype, header = _read_header(stream, name)
    if dtype.hasobject:
        raise DataUnsafeError(
            f"array '{name}' holds Python objects, which need pickle to load; pickle can run code and is "
            f"refused; save numbers or text, for texts np.array(list_of_texts, dtype=str)"
        )
    if len(shape) > _MAX_AXES:
        raise DataFormatError(f"array '{name}' has {len(shape)} axes; at most {_MAX_AXES} make sense")
    needed = math.prod(shape) * dtype.itemsize
    if needed != size - header:
        raise DataUnsafeError(
            f"array '{name}' says that it is {shape} of {dtype} ({needed} bytes), but {size - header} bytes "
            f"follow; the file is damaged or made up"
        )
    check_unpacked(needed, f"array '{name}'")
    buffer = bytearray(needed)
    filled = 0
    while filled < needed:
        chunk = stream.read(min(1 << 20, needed - filled))
        if not chunk:
            raise DataError(f"array '{name}' ends after {filled} of {needed} bytes; the file is cut off")
        buffer[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    array = np.frombuffer(buffer, dtype=dtype) if needed else np.empty(math.prod(shape), dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    if len(members) > _MAX_ARRAYS:
        raise DataUnsafeError(f"the .npz file has {len(members)} members; at most {_MAX_ARRAYS} are read")
    for info in members:
        if not info.filename.endswith(".npy"):
            raise DataFormatError(f"'{info.filename}' in the .npz file is no array (.npy)")
        if info.flag_bits & 1:
            raise DataUnsafeError(f"'{info.filename}' is encrypted; send the file without a password")
    if len({info.filename for info in members}) < len(members):
        raise DataFormatError("the .npz file has two arrays of the same name")
    check_unpacked(sum(info.file_size for info in members), "the .npz file")


def _read_header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """(shape, Fortran order, dtype, bytes of the header)."""
    counted = _Counted(stream)
    try:
        version = npy.read_magic(counted)
        if version == (1, 0):
            shape, fortran, dtype = npy.read_array_header_1_0(counted, max_header_size=_MAX_HEADER)
        elif version == (2, 0):
            shape, fortran, dtype = npy.read_array_header_2_0(counted, max_header_size=_MAX_HEADER)
        else:
            raise DataFormatError(f"array '{name}' is of .npy version {version}; versions 1 and 2 are read")
    except PruneError:
        raise
    except Exception as error:  # noqa: BLE001  numpy's parser lets errors of tokenize and ast through
        raise DataFormatError(f"array '{name}' has no readable .npy header: {str(error)[:200]}") from None
    if any(type(extent) is not int or extent < 0 for extent in shape):
        raise DataFormatError(f"array '{name}' has the impossible shape {shape}")
    return shape, bool(fortran), dtype, counted.read_so_far


class _Counted:
    """Counts what is read, because a member of a zip archive cannot always tell its position."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.read_so_far = 0

    def read(self, size: int = -1) -> bytes:
        got = self._stream.read(size)
        self.read_so_far += len(got)
        return got
