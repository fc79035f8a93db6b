"""What a data file is, told by its directory and headers."""

from __future__ import annotations

import contextlib
import io
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_engine.errors import (
    DataEmptyError,
    DataError,
    DataFormatError,
    DataUnsafeError,
)
from service.sniffing import DataSniffer
from tests.service.samples import zipped


def sniff(data: bytes, max_unpacked: int = 10**9) -> str:
    sniffer = DataSniffer("d", max_unpacked=max_unpacked)
    for at in range(0, len(data), 1000):
        sniffer.feed(data[at : at + 1000])
    return sniffer.finish(lambda start, length: data[start : start + length])


def npz(compressed: bool = False, **arrays: np.ndarray) -> bytes:
    held = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(held, **arrays)
    return held.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
def test_an_npz_is_recognised_with_any_numeric_dtype(compressed: bool) -> None:
    kinds = ["<f4", ">f8", "|u1", "<i8", "|b1", "<U5", "|S3", "<f2", "<M8[ns]", "<c16"]
    arrays = {f"a{n}": np.zeros((3, 2), dtype=kind) for n, kind in enumerate(kinds)}
    assert sniff(npz(compressed, **arrays, scalar=np.float32(3))) == "npz"


@pytest.mark.parametrize("compressed", [False, True])
def test_an_object_array_is_unsafe_and_nothing_is_unpickled(compressed: bool) -> None:
    with pytest.raises(DataUnsafeError, match="'y' holds Python objects"):
        sniff(npz(compressed, x=np.zeros(3), y=np.array([{"a": 1}, None], dtype=object)))


def test_a_structured_array_with_objects_is_unsafe() -> None:
    with pytest.raises(DataUnsafeError):
        sniff(npz(x=np.zeros(2, dtype=[("a", "f4"), ("b", "O")])))


def test_a_header_that_promises_more_than_there_is_is_refused() -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (25_000_000_000,)}
    )
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("x.npy", header.getvalue())
    with pytest.raises(DataError, match="promises 200,000,000,000 bytes"):
        sniff(held.getvalue())


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "..\\x", "C:\\x", "C:/x"])
def test_a_member_that_leaves_its_folder_is_unsafe(name: str) -> None:
    with pytest.raises(DataUnsafeError, match="leads out"):
        sniff(zipped("cat/1.png", name))


def test_a_link_is_unsafe() -> None:
    held = io.BytesIO()
    link = zipfile.ZipInfo("cat/1.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataUnsafeError, match="link"):
        sniff(held.getvalue())


def test_what_unpacks_to_too_much_is_unsafe() -> None:
    with pytest.raises(DataUnsafeError, match="unpacks to 10,000 bytes"):
        sniff(zipped("a/1.png", "b/1.png"), max_unpacked=9999)


def test_image_folders_and_tables_are_recognised() -> None:
    table = io.BytesIO()
    pq.write_table(pa.table({"x": [1.0], "y": [0]}), table)
    assert sniff(zipped("cat/1.png", "dog/2.png", "..cat/fine..png")) == "zip"
    assert sniff(b"x,y\n1,2\n") == "csv"
    assert sniff("größe;y\n1;2\n".encode()) == "csv"
    assert sniff(("x,y\n" + "ü" * 40_000).encode()) == "csv"
    assert sniff(table.getvalue()) == "parquet"


@pytest.mark.parametrize("data", [npz(x=np.zeros(9), y=np.ones(9)), zipped("a/1", "b/2")])
def test_every_truncation_of_an_archive_is_refused(data: bytes) -> None:
    for end in range(len(data)):
        with pytest.raises(DataError):
            sniff(data[:end])


def test_a_large_directory_is_read_in_pieces() -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for number in range(30_000):
            archive.writestr(f"class_{number % 10}/a_rather_long_name_of_an_image_{number}.png", b"")
    data = held.getvalue()
    asked: list[int] = []

    def read(start: int, length: int) -> bytes:
        asked.append(length)
        return data[start : start + length]

    sniffer = DataSniffer("d.zip", max_unpacked=1)
    sniffer.feed(data)
    assert sniffer.finish(read) == "zip"
    assert max(asked) <= 1 << 20
    assert len(asked) > 2


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", DataEmptyError),
        (b"PK\x05\x06" + b"\x00" * 18, DataEmptyError),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 100, DataFormatError),
        (b"\x93NUMPY\x01\x00" + b"\x00" * 100, DataFormatError),
        (b"just some words\n", DataFormatError),
        (b"a,b\x00c\n", DataFormatError),
        (b"PAR1" + b"\x00" * 100, DataError),
        (b"\xff\xfe\x00\x01" * 100, DataFormatError),
    ],
)
def test_foreign_and_broken_files_are_refused(data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        sniff(data)


@pytest.mark.parametrize("shape", ["(3\xa0,)", "(3\n4,)", "(,)", "(\xb2,)", "(" + "9" * 5000 + ",)", "(-1,)"])
def test_a_shape_that_numpy_would_not_write_is_refused(shape: str) -> None:
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode("latin-1")
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    with pytest.raises(DataError):
        sniff(held.getvalue())


@settings(max_examples=300)
@given(data=st.data())
def test_a_damaged_archive_ends_in_an_answer_or_an_error_of_the_tree(data: st.DataObject) -> None:
    damaged = bytearray(npz(True, x=np.arange(9.0), y=np.ones(3)))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DataError):
        assert sniff(bytes(damaged)) in ("npz", "zip", "csv")
