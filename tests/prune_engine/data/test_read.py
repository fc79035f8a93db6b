from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from prune_engine.data import read_data
from prune_engine.errors import DataEmptyError, DataError, DataFormatError
from prune_engine.spec import PruneSpec

SPEC = PruneSpec(density=0.5)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, "PNG")
    return buffer.getvalue()


def empty_zip() -> bytes:
    buffer = io.BytesIO()
    zipfile.ZipFile(buffer, "w").close()
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("contents", "error", "says"),
    [
        (b"", DataEmptyError, "empty"),
        (empty_zip(), DataEmptyError, "empty"),
        (png(), DataFormatError, "PNG image"),
        (pickle.dumps({"x": 1}), DataFormatError, "pickle"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), DataFormatError, "HDF5"),
        (b"\x1f\x8b\x08" + bytes(40), DataFormatError, "gzip"),
        (b"\x00\x01\x02\x03" * 10, DataFormatError, "no known kind"),
        (b"just some words", DataFormatError, "Empty CSV"),
        (b"PAR1 and then nonsense", DataError, "parquet"),
        (b"PK\x03\x04 and then nonsense", DataError, "damaged"),
    ],
)
def test_foreign_files_are_refused_by_contents(
    tmp_path: Path, contents: bytes, error: type[DataError], says: str
) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(contents)
    with pytest.raises(error, match=says) as caught:
        read_data(path, SPEC, name="data.npz")
    assert caught.value.param == "dataset"


def test_the_name_of_the_file_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    with path.open("wb") as stream:
        np.savez(stream, x=np.zeros((12, 3)), y=np.zeros(12, int))
    raw = read_data(path, SPEC, name="data.csv")
    assert (raw.kind, raw.source, len(raw.train)) == ("table", "supplied", 12)


def test_a_single_npy_array_is_rows_without_labels(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.ones((12, 5), np.float32))
    raw = read_data(path, SPEC, name="x.npy")
    assert raw.train.labels is None
    assert raw.train.inputs["x"].shape == (12, 5)


@settings(max_examples=200, deadline=None)
@given(
    contents=st.one_of(
        st.binary(max_size=300),
        st.text(max_size=300).map(str.encode),
        st.sampled_from([b"PAR1", b"PK\x03\x04", b"\x93NUMPY", b"\x93NUMPY\x01\x00"]).flatmap(
            lambda magic: st.binary(max_size=200).map(lambda rest: magic + rest)
        ),
    )
)
def test_any_bytes_give_data_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, contents: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "data"
    path.write_bytes(contents)
    try:
        assert len(read_data(path, SPEC, name="data").train) > 0
    except DataError:
        return
