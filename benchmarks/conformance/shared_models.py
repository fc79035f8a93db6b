"""Proof 3: the shared CIFAR-10 ResNets through every format, with unchanged accuracy.

    python -m benchmarks.conformance shared [--rows 10000]

Each model as ONNX, with external data in a `.zip`, in float16, in int8 with Q/DQ pairs, as TorchScript and
as `.pt2`. "as sent" is the file in its own runtime (torch for the last two), "back" what import and
write-back make of it without training, "values changed" the values that differ in it. "job" is a whole
`prune` at density 1, which trains nothing: its dense and its pruned accuracy. All on the test images.
Writes `results/conformance_shared.{json,md}`.
"""

from __future__ import annotations

import argparse
import os
import sys
import zipfile
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper

from benchmarks.conformance.shared_copies import copies
from benchmarks.machine import store
from prune_engine import PruneSpec, prune
from prune_engine.data import candidate_shapes, data_from_arrays
from prune_engine.formats import import_onnx, read_model, write_back

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("PRUNERY_TEST_SHARED", ROOT.parent / "shared"))
CACHE = ROOT / ".cache" / "conformance-shared"
MODELS = ("resnet20", "resnet56")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PREPROCESS = {"scale": 1 / 255, "mean": MEAN, "std": STD, "layout": "nchw"}
TRAIN_ROWS = 512
CLOSE = 0.05
"""Points of accuracy that the same values may differ by between runtimes."""

Array = np.ndarray[Any, Any]


def main(arguments: Sequence[str]) -> int:
    """Measure and store; 0 when nothing changed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conformance shared")
    parser.add_argument("--rows", type=int, default=10_000, help="test images")
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--formats", nargs="*", help="only these, and no table")
    options = parser.parse_args(arguments)
    with np.load(ROOT / ".cache" / "datasets" / "cifar10.npz") as arrays:
        data = {name: arrays[name] for name in arrays.files}
    data = {name: rows[: TRAIN_ROWS if "train" in name else options.rows] for name, rows in data.items()}
    rows = [
        _row(name, kind, path, data)
        for name in options.models
        for kind, path in copies(
            SHARED / "models" / "cifar10_resnet", name, CACHE, _images(data["x_train"])
        ).items()
        if not options.formats or kind in options.formats
    ]
    if options.formats:
        print(*rows, sep="\n")
        return 0
    store("conformance_shared", "Shared models through every format, at density 1", rows, _notes())
    return 0 if all(row["unchanged"] == "yes" for row in rows) else 1


def _notes() -> list[str]:
    return [" ".join((__doc__ or "").split("\n\n")[2].split())]


def _row(name: str, kind: str, path: Path, data: dict[str, Array]) -> dict[str, Any]:
    print(name, kind, file=sys.stderr, flush=True)
    row: dict[str, Any] = {"model": name, "format": kind}
    try:
        row |= _measured(path, data)
    except Exception as error:  # noqa: BLE001  the table says what happened
        row["unchanged"] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return row


def _measured(path: Path, data: dict[str, Array]) -> dict[str, Any]:
    as_sent = _accuracy(_native(path, _images(data["x_test"])), data)
    source = read_model(path, candidate_shapes=candidate_shapes(data_from_arrays(data, name="cifar10")))
    back = write_back(source.proto, import_onnx(source.proto).state_values())
    written = _accuracy(_outputs(back, _images(data["x_test"])), data)
    changed = _changed(source.proto, back)
    spec = PruneSpec.model_validate({"density": 1.0, "preprocess": PREPROCESS})
    quality = prune(path, data, spec).report.quality
    dense, pruned = quality.dense.value, quality.pruned.value
    same = changed == 0 and dense == pruned and max(abs(back - as_sent) for back in (written, dense)) <= CLOSE
    return {
        "as sent %": round(as_sent, 2),
        "back %": round(written, 2),
        "values changed": changed,
        "job: dense %": round(dense, 2),
        "job: pruned %": round(pruned, 2),
        "unchanged": "yes" if same else "no",
    }


def _images(rows: Array) -> Array:
    """As the models take them: channels first, normalised."""
    images = (rows.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)


def _accuracy(outputs: Array, data: dict[str, Array]) -> float:
    return 100.0 * float((outputs.argmax(1) == data["y_test"]).mean())


def _native(path: Path, images: Array) -> Array:
    """The outputs of the file in the runtime that it was made for."""
    if path.suffix in (".pt", ".pt2"):
        loaded = (
            torch.export.load(path).module() if path.suffix == ".pt2" else torch.jit.load(str(path)).eval()  # type: ignore[no-untyped-call]
        )
        with torch.no_grad():
            parts = [loaded(torch.from_numpy(images[part])) for part in _parts(len(images))]
        return np.concatenate([part.numpy() for part in parts])
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            graph = next(name for name in archive.namelist() if name.endswith(".onnx"))
            model = onnx.load(BytesIO(archive.read(graph)), load_external_data=False)
            folder = path.with_suffix("")
        onnx.load_external_data_for_model(model, str(folder))
        return _outputs(model, images)
    return _outputs(onnx.load(path), images)


def _outputs(model: onnx.ModelProto, images: Array) -> Array:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: images[part]})[0] for part in _parts(len(images))])


def _parts(rows: int) -> Iterator[slice]:
    return (slice(start, start + 500) for start in range(0, rows, 500))


def _changed(before: onnx.ModelProto, after: onnx.ModelProto) -> int:
    """How many values of the initializers differ."""
    pairs = zip(before.graph.initializer, after.graph.initializer, strict=True)
    return sum(
        int(np.count_nonzero(numpy_helper.to_array(one) != numpy_helper.to_array(other)))
        for one, other in pairs
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
