"""What mutations begin from: small sound files of every kind, and the hostile ones of the tests."""

from __future__ import annotations

import io
import json
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import nn

from tests.prune_engine.formats import hostile
from tests.prune_engine.formats.sound import sound_files
from tests.prune_engine.formats.zoo import build, export, inputs

Corpus = dict[str, list[bytes]]


@cache
def corpus() -> Corpus:
    """Files by kind."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: make() for name, make in _KINDS.items()}


def _onnx() -> list[bytes]:
    return sound_files("lenet", "mobilenet_v3")


def _hostile() -> list[bytes]:
    large = (hostile.long_name, hostile.many_attributes, hostile.many_dimensions, hostile.many_large_ones,
             hostile.deep_functions)  # fmt: skip
    bad = [make() for make in (*hostile.MEMORY, *hostile.STEPS, *hostile.NESTING) if make not in large]
    return [proto.SerializeToString() for proto in bad]


def _bundles() -> list[bytes]:
    found = []
    for name in ("mlp", "lenet"):
        proto = export(build(name), inputs(name, 2), opset=13)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(proto, path, save_as_external_data=True, location="model.data", size_threshold=0)
            found.append(_zipped({file.name: file.read_bytes() for file in sorted(path.parent.iterdir())}))
    return found


def _torchscript() -> list[bytes]:
    made = [
        torch.jit.trace(build("lenet").eval(), inputs("lenet", 2), check_trace=False),
        torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).eval()),
        torch.jit.script(nn.LSTM(4, 4).eval()),
    ]
    found = []
    for module in made:
        stream = io.BytesIO()
        torch.jit.save(module, stream)
        found.append(stream.getvalue())
    return found


def _pt2() -> list[bytes]:
    stream = io.BytesIO()
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)
    ).eval()
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    torch.export.save(torch.export.export(net, (torch.randn(2, 3, 8, 8),), dynamic_shapes=shapes), stream)
    return [stream.getvalue()]


def _npz() -> list[bytes]:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 4)).astype(np.float32), rng.integers(0, 2, 12)
    found = []
    for save, arrays in (
        (np.savez, {"x": x, "y": y}),
        (np.savez_compressed, {"x_train": x, "y_train": y, "x_test": x[:4], "y_test": y[:4]}),
        (np.savez, {"x": np.array(["a text", "another", "one more"]), "y": np.array([0, 1, 0])}),
        (np.savez, {"x": rng.integers(0, 255, (6, 8, 8, 3)).astype(np.uint8), "y": np.array(list("abcabc"))}),
    ):
        stream = io.BytesIO()
        save(stream, **arrays)
        found.append(stream.getvalue())
    return found


def _images() -> list[bytes]:
    rng = np.random.default_rng(0)
    pictures = {}
    for number, kind in enumerate(("png", "jpg", "webp", "bmp", "gif", "png")):
        stream = io.BytesIO()
        pixels = rng.integers(0, 255, (8, 8) if kind == "bmp" else (8, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(stream, {"jpg": "JPEG"}.get(kind, kind.upper()))
        pictures[f"{'cat' if number % 2 else 'dog'}/{number}.{kind}"] = stream.getvalue()
    split = {f"{part}/{name}": content for part in ("train", "test") for name, content in pictures.items()}
    return [_zipped(pictures), _zipped(split)]


def _csv() -> list[bytes]:
    rows = "".join(f"{i},{i * 0.5},{'abc'[i % 3]}\n" for i in range(30))
    return [
        f"a,b,y\n{rows}".encode(),
        f"a;b;y\n{rows}".replace(",", ";").encode("utf-8-sig"),
        b'"a","b, c",y\r\n1,2,"x ""y"""\r\n3,4,z\r\n',
        b"1,2,3\n4,5,6\n7,8,9\n",
    ]


def _parquet() -> list[bytes]:
    table = pa.table({"a": list(range(40)), "b": [i / 3 for i in range(40)], "t": ["x", "y"] * 20})
    found = []
    for options in ({}, {"compression": "zstd"}, {"compression": "none", "use_dictionary": False}):
        stream = io.BytesIO()
        pq.write_table(table, stream, **options)
        found.append(stream.getvalue())
    return found


def _tokenizers() -> list[bytes]:
    model = {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1, "text": 2}, "unk_token": "[UNK]"}
    plain = {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"}, "model": model}
    rich = {
        **plain,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Lowercase"}, {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}]},
        "post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}],
                           "pair": [{"Sequence": {"id": "A", "type_id": 0}}], "special_tokens": {}},
        "padding": {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "[UNK]"},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
    }  # fmt: skip
    return [json.dumps(one).encode() for one in (plain, rich)]


def _zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


_KINDS: dict[str, Callable[[], list[bytes]]] = {
    "onnx": _onnx,
    "hostile": _hostile,
    "bundle": _bundles,
    "torchscript": _torchscript,
    "pt2": _pt2,
    "npz": _npz,
    "images": _images,
    "csv": _csv,
    "parquet": _parquet,
    "tokenizer": _tokenizers,
}
