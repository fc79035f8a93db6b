"""Small data files that ask for far too much are refused, each with its code, before memory is asked for."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from prune_engine.data import limits
from prune_engine.data.read import read_data
from prune_engine.data.text import encode, load_tokenizer
from prune_engine.errors import PruneError
from prune_engine.spec import PruneSpec

SPEC = PruneSpec(density=0.5)
MIB = 2**20


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, extra: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + extra + pixels + chunk(b"IEND", b"")


def good() -> bytes:
    stream = io.BytesIO()
    Image.new("L", (4, 4)).save(stream, "PNG")
    return stream.getvalue()


def images(**named: bytes) -> bytes:
    return zipped(
        {f"a/{name.replace('_', '.')}": content for name, content in named.items()} | {"b/2.png": good()}
    )


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def npy(shape: str, descr: str = "'<f8'", content: bytes = b"") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00v\x00" + text + content


def lying(size: int) -> bytes:
    """An .npz whose directory says that its array has another size than it has."""
    data = bytearray(zipped({"x.npy": npy("(4,)", content=bytes(32))}))
    at = data.rindex(b"PK\x01\x02")
    struct.pack_into("<I", data, at + 24, size)
    return bytes(data)


def overlapping() -> bytes:
    """A thousand entries of the directory for one and the same member."""
    data = zipped({"a/1.png": good()})
    at, end = data.rindex(b"PK\x01\x02"), data.rindex(b"PK\x05\x06")
    directory = data[at:end] * 1000
    record = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1000, 1000, len(directory), at, 0)
    return data[:at] + directory + record


def texts(rows: int, length: int, *, stored: bool) -> bytes:
    stream = io.BytesIO()
    words = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["x" * length]))
    pq.write_table(pa.table({"x": np.zeros(rows), "y": words}), stream, store_schema=stored)
    return stream.getvalue()


def runs(rows: int) -> bytes:
    """Rows that are all alike take next to nothing."""
    stream = io.BytesIO()
    pq.write_table(pa.table({f"c{i}": np.zeros(rows) for i in range(20)}), stream)
    return stream.getvalue()


def bmp(width: int, height: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + info


CASES: dict[str, tuple[Callable[[], bytes], str]] = {
    "npy of 128 bytes": (lambda: npy("(25000000000,)"), "data_unsafe"),
    "npz of it": (lambda: zipped({"x.npy": npy("(25000000000,)")}), "data_unsafe"),
    "npz of more than there is": (lambda: zipped({"x.npy": npy("(99,)", content=bytes(9))}), "data_unsafe"),
    "npz with overflowing axes": (lambda: zipped({"x.npy": npy("(4294967296, 4294967296)")}), "data_unsafe"),
    "npz of objects": (lambda: zipped({"x.npy": npy("(1,)", "'|O'", b"\x80\x04N.")}), "data_unsafe"),
    "npz that says too little": (lambda: lying(16), "data_format_unknown"),
    "npz that says too much": (lambda: lying(2**31), "data_unsafe"),
    "npz of many arrays": (lambda: zipped({f"{i}.npy": npy("(0,)") for i in range(1500)}), "data_unsafe"),
    "npz of zeros": (
        lambda: zipped({"x.npy": npy("(50000000,)", "'|u1'", bytes(50_000_000))}),
        "data_unsafe",
    ),
    "npz in bzip2": (
        lambda: zipped({"x.npy": npy("(50000000,)", "'|u1'", bytes(50_000_000))}, zipfile.ZIP_BZIP2),
        "data_unsafe",
    ),
    "zip in a zip": (lambda: zipped({"a/1.zip": zipped({"x": bytes(10**6)})}), "data_format_unknown"),
    "zip that overlaps": (overlapping, "data_unsafe"),
    "zip with a device": (lambda: zipped({"C:/1.png": good()}), "data_unsafe"),
    "zip that leaves": (lambda: zipped({"../1.png": good()}), "data_unsafe"),
    "png of 10 gigapixels": (lambda: images(x_png=png(100_000, 100_000)), "data_unsafe"),
    "png of 80 megapixels": (lambda: images(x_png=png(9_000, 9_000)), "data_unsafe"),
    "png with a long text": (
        lambda: images(x_png=png(4, 4, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(50_000_000))))),
        "data_unsafe",
    ),
    "png with a long profile": (
        lambda: images(x_png=png(4, 4, chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(50_000_000))))),
        "data_unsafe",
    ),
    "many pngs": (lambda: images(**{f"{i}_png": png(4000, 4000) for i in range(20)}), "data_unsafe"),
    "bmp of an exapixel": (lambda: images(x_bmp=bmp(2**30, 2**30)), "data_unsafe"),
    "tiff": (lambda: images(x_png=b"II*\0" + bytes(100)), "data_invalid"),
    "csv with an open quote": (lambda: b'a,y\n1,2\n"' + b"x" * 3_000_000, "data_format_unknown"),
    "csv with a long field": (lambda: b"a,y\n" + b"1" * 3_000_000 + b",1\n", "data_format_unknown"),
    "csv with a long line": (lambda: b"a," * 2_000_000, "data_format_unknown"),
    "csv with a NUL": (lambda: b"a,y\n1\x00,2\n" * 9, "data_format_unknown"),
    "csv with a NUL far down": (lambda: b"a,y\n" + b"1,2\n" * 40_000 + b"\0\0,1\n", "data_format_unknown"),
    "csv in Latin-1": (lambda: b"a,y\n" + b"1,2\n" * 40_000 + b"\xff\xfe,1\n", "data_format_unknown"),
    "csv in UTF-16": (lambda: "a,y\n1,2\n".encode("utf-16"), "data_format_unknown"),
    "csv without rows": (lambda: b"a,y\n" + b"\n" * 1_000_000, "data_empty"),
    "parquet of equal rows": (lambda: runs(500_000), "data_unsafe"),
    "parquet of one long label": (lambda: texts(20_000, 100_000, stored=True), "data_unsafe"),
    "parquet of one, plain": (lambda: texts(20_000, 100_000, stored=False), "data_unsafe"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_asks_for_too_much_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 32 MiB allowed; what Python and numpy take at most meanwhile is no more than a few times that."""
    monkeypatch.setattr(limits, "MAX_UNPACKED_BYTES", 32 * MIB)
    make, code = CASES[name]
    path = tmp_path / "data"
    path.write_bytes(make())
    tracemalloc.start()
    try:
        with pytest.raises(PruneError) as refused:
            read_data(path, SPEC, name="data")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (refused.value.code, refused.value.param) == (code, "dataset"), refused.value.message
    assert peak < 100 * MIB


PLAIN: dict[str, Any] = {
    "version": "1.0",
    "added_tokens": [],
    "pre_tokenizer": {"type": "Whitespace"},
    "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1}, "unk_token": "[UNK]"},
}
DOUBLE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
UNK = {"SpecialToken": {"id": "[UNK]", "type_id": 0}}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated",
                            "invert": False}}, "data_invalid"),
        ({"normalizer": DOUBLE | {"pattern": {"Regex": "(a|aa)+b"}}}, "data_invalid"),
        ({"normalizer": {"type": "Sequence", "normalizers": [DOUBLE] * 40}}, "data_unsafe"),
        ({"normalizer": DOUBLE | {"content": "a" * 5000}}, "data_unsafe"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA/////w=="}}, "data_invalid"),
        ({"post_processor": {"type": "TemplateProcessing", "single": [UNK] * 100, "pair": [],
                             "special_tokens": {}}}, "data_unsafe"),
        ({"model": {"type": "Unigram", "unk_id": 5, "vocab": [["a", -1.0]]}}, "data_invalid"),
    ],
)  # fmt: skip
def test_a_tokenizer_that_would_take_the_process_along_is_refused(
    change: dict[str, Any], code: str, tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(PLAIN | change))
    with pytest.raises(PruneError) as refused:
        encode(load_tokenizer(path, 16), np.array(["a" * 60 + "!", "b"]), 16)
    assert (refused.value.code, refused.value.param) == (code, "tokenizer")


def test_a_tokenizer_that_is_nested_too_deep_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("[" * 100_000)
    with pytest.raises(PruneError, match="cannot be read"):
        load_tokenizer(path, 16)
