from __future__ import annotations

import contextlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prune_engine.data import limits
from prune_engine.data.npz import read_headers, read_npz
from prune_engine.data.read import read_data
from prune_engine.errors import DataError, DataFormatError, DataUnsafeError
from prune_engine.spec import PruneSpec

SPEC = PruneSpec(density=0.5)
arrays = hnp.arrays(
    dtype=st.one_of(
        hnp.integer_dtypes(endianness="?"),
        hnp.unsigned_integer_dtypes(),
        hnp.floating_dtypes(sizes=(16, 32, 64)),
        hnp.boolean_dtypes(),
        hnp.unicode_string_dtypes(min_len=1, max_len=5),
    ),
    shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)


def npz(path: Path, **contents: np.ndarray) -> Path:
    np.savez(path, **contents)
    return path


def npy_header(shape: str, dtype: str = "<f4") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@settings(max_examples=60, deadline=None)
@given(array=arrays, fortran=st.booleans())
def test_what_numpy_saves_is_read_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, fortran: bool
) -> None:
    if fortran:
        array = np.asfortranarray(array)
    read = read_npz(npz(tmp_path_factory.mktemp("npz") / "a.npz", some=array))["some"]
    assert read.shape == array.shape
    assert read.dtype == array.dtype
    assert read.tobytes() == array.tobytes()


def test_headers_are_read_without_contents(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", x=np.zeros((3, 4), np.uint8), y=np.zeros(3))
    assert read_headers(path) == {"x": ((3, 4), np.dtype("uint8")), "y": ((3,), np.dtype("float64"))}


def test_object_arrays_are_refused_before_unpickling(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    with pytest.raises(DataUnsafeError, match="'x' holds Python objects"):
        read_npz(path)


@pytest.mark.parametrize("shape", ["(50000000000,)", "(2, 3)", "(4294967296, 4294967296, 4294967296)"])
def test_a_header_that_asks_for_more_than_is_there_is_refused(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", npy_header(shape) + b"\0" * 16)
    with pytest.raises(DataUnsafeError, match="says that it is"):
        read_npz(path)


@pytest.mark.parametrize("shape", ["(-1,)", "(True,)", "((((", "(1.5,)", "__import__('os')"])
def test_a_made_up_shape_is_a_format_error(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", npy_header(shape))
    with pytest.raises(DataFormatError, match="'x'"):
        read_npz(path)


def test_a_small_file_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, x=np.zeros(4_000_000, np.uint8))
    assert path.stat().st_size < 50_000
    monkeypatch.setattr(limits, "MAX_UNPACKED_BYTES", 1_000_000)
    with pytest.raises(DataUnsafeError, match="unpacks to 4000"):
        read_npz(path)


def test_structured_and_complex_arrays_are_named_in_the_error(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", x=np.zeros(12, dtype=complex), y=np.zeros(12))
    with pytest.raises(DataFormatError, match="'x' has dtype complex128"):
        read_data(path, SPEC, name="a")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_file_gives_a_data_error_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    buffer = io.BytesIO()
    save = np.savez_compressed if data.draw(st.booleans()) else np.savez
    save(buffer, x=np.arange(48, dtype=np.float32).reshape(12, 4), y=np.arange(12) % 2)
    contents = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        contents[data.draw(st.integers(0, len(contents) - 1))] = data.draw(st.integers(0, 255))
    del contents[data.draw(st.integers(1, len(contents))) :]
    path = tmp_path_factory.mktemp("damaged") / "a.npz"
    path.write_bytes(contents)
    with contextlib.suppress(DataError):
        read_data(path, SPEC, name="a")
