"""A model of more than 2 GiB: read, imported, written back, saved, loaded by onnxruntime.

    python -m benchmarks.conformance large [--rows 540000] [--prune]

The model is an embedding table (`--rows` x 1024, float32) with a small head, in a `.zip` of `model.onnx` and
its data file. Each step runs in this one process; "peak" is the most memory that it has held since it began.
`--prune` runs two steps of training on it as well. Writes `results/conformance_large_file.{json,md}`.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.machine import store
from prune_engine import PruneSpec, prune
from prune_engine.formats import import_onnx, read_model, save_model, write_back
from prune_engine.spec import Preprocess

WIDTH, CLASSES, TOKENS = 1024, 4, 16
_BLOCK = 4096  # rows that are made at a time
Row = dict[str, Any]


def main(arguments: Sequence[str]) -> int:
    """Measure and store; 0 when the model that came out computes what the one that went in does."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conformance large")
    parser.add_argument("--rows", type=int, default=540_000, help="of the table; 1024 floats each")
    parser.add_argument(
        "--prune", action="store_true", help="train and prune it too: needs five times its size"
    )
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="prunery-large-") as folder:
        path = Path(folder) / "sent.zip"
        make(path, options.rows)
        same = _whole_way(path, Path(folder), rows)
        if options.prune:
            _prune(path, options.rows, rows)
    size = options.rows * WIDTH * 4
    note = f"An embedding table of {options.rows} x {WIDTH} floats; the data file has {size / 2**30:.2f} GiB."
    store("conformance_large_file", "A model of more than 2 GiB", rows, [note])
    return 0 if same else 1


def make(path: Path, rows: int) -> None:
    """The model, its table written a block at a time."""
    size = rows * WIDTH * 4
    table = TensorProto(name="table", data_type=TensorProto.FLOAT, dims=[rows, WIDTH])
    table.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "model.onnx.data"), ("offset", 0), ("length", size)):
        table.external_data.add(key=key, value=str(value))
    rng = np.random.default_rng(0)
    head = numpy_helper.from_array(rng.standard_normal((WIDTH, CLASSES), np.float32), "head.weight")
    axes = numpy_helper.from_array(np.array([1]), "axes")
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["found"], name="embed"),
        helper.make_node("ReduceMean", ["found", "axes"], ["mean"], name="mean", keepdims=0),
        helper.make_node("MatMul", ["mean", "head.weight"], ["logits"], name="head"),
    ]
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", TOKENS])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES])],
        [table, head, axes],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("model.onnx", proto.SerializeToString())
        with archive.open("model.onnx.data", "w", force_zip64=True) as stream:
            for begin in range(0, rows, _BLOCK):
                stream.write(rng.standard_normal((min(_BLOCK, rows - begin), WIDTH), np.float32).tobytes())


@contextmanager
def _step(rows: list[Row], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    rows.append({"step": name, "s": round(time.perf_counter() - started, 1), "peak GiB": round(peak, 2)})
    print(rows[-1], flush=True)


def _whole_way(path: Path, folder: Path, rows: list[Row]) -> bool:
    with _step(rows, "read the zip, check it"):
        source = read_model(path)
    with _step(rows, "import"):
        module = import_onnx(source.proto)
    assert {weight.name for weight in module.prunable} == {"table", "head.weight"}
    with _step(rows, "change the head, write back"):
        values = module.state_values()
        head = values["head.weight"].copy()
        head[0] = 0
        del module  # as after a training that has ended; its two copies need not be kept for this
        written = write_back(source.proto, {**values, "head.weight": head})
    layout = source.storage
    del source, values
    with _step(rows, "save the zip"):
        name = save_model(written, folder, layout)
    del written
    with _step(rows, "unpack it, load it in onnxruntime, run it"):
        with zipfile.ZipFile(folder / name) as archive:
            archive.extractall(folder / "out")
        (folder / name).unlink()
        runtime = onnxruntime.InferenceSession(
            folder / "out" / "model.onnx", providers=["CPUExecutionProvider"]
        )
        ids = np.arange(2 * TOKENS).reshape(2, TOKENS)
        (found,) = runtime.run(None, {"ids": ids})
    table = np.memmap(folder / "out" / "model.onnx.data", np.float32, "r").reshape(-1, WIDTH)
    return bool(np.allclose(found, table[ids].mean(1) @ head, atol=1e-4))


def _prune(path: Path, count: int, rows: list[Row]) -> None:
    rng = np.random.default_rng(1)
    data = {"ids": rng.integers(0, count, (96, TOKENS)), "labels": rng.integers(0, CLASSES, 96)}
    with _step(rows, "prune to half, two epochs"):
        spec = PruneSpec(density=0.5, epochs=2, batch_size=32, task="classification", preprocess=Preprocess())
        result = prune(path, data, spec)
        assert isinstance(result.model, onnx.ModelProto)
