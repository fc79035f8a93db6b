"""Whole jobs beside Landlock, of every kind of file: what a library does in there must be allowed.

Jobs in bubblewrap, the stronger way, are all those that `tests/end_to_end` sends.
"""

from __future__ import annotations

import io
import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from jobs.sandbox.cell import Wish
from jobs.sandbox.limits import Limits
from prune_engine.data.built_in import digits
from tests.jobs.sandbox.attacker import Way, finish, job_folder, skip_unless_here
from tests.trained import digits_net, export
from worker.child import Child

LIMITS = Limits(8 * 1024**3, 1024**3, 512)
pytestmark = pytest.mark.filterwarnings("ignore")
Writer = Callable[[Path], None]


def net() -> torch.nn.Module:
    return digits_net(digits()).eval()


def as_onnx(folder: Path) -> None:
    export(net(), torch.zeros(1, 1, 8, 8), folder / "model.onnx")


def as_torchscript(folder: Path) -> None:
    torch.jit.trace(net(), torch.zeros(2, 1, 8, 8)).save(str(folder / "model.pt"))


def as_pt2(folder: Path) -> None:
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(net(), (torch.zeros(2, 1, 8, 8),), dynamic_shapes=shapes)
    torch.export.save(program, folder / "model.pt2")


def as_zip(folder: Path) -> None:
    made = folder.parent / "made"
    made.mkdir()
    as_onnx(made)
    onnx.save(
        onnx.load(made / "model.onnx"),
        made / "net.onnx",
        save_as_external_data=True,
        location="net.data",
        size_threshold=0,
    )
    with zipfile.ZipFile(folder / "model.zip", "w") as archive:
        for name in ("net.onnx", "net.data"):
            archive.write(made / name, name)


def npz(folder: Path) -> None:
    np.savez(folder / "data.npz", **digits())


def image_folders(folder: Path) -> None:
    arrays = digits()
    with zipfile.ZipFile(folder / "data.zip", "w") as archive:
        for number, (image, label) in enumerate(zip(arrays["x_train"], arrays["y_train"], strict=True)):
            held = io.BytesIO()
            Image.fromarray((np.clip(image, 0, 16) * 15).astype(np.uint8)).save(held, "PNG")
            archive.writestr(f"{label}/{number}.png", held.getvalue())


def table() -> pa.Table:
    arrays = digits()
    rows = arrays["x_train"].reshape(len(arrays["x_train"]), -1)
    columns = {f"p{number:02}": rows[:, number].astype(np.float32) for number in range(rows.shape[1])}
    return pa.table({**columns, "target": arrays["y_train"]})


def csv(folder: Path) -> None:
    pyarrow.csv.write_csv(table(), folder / "data.csv")


def parquet(folder: Path) -> None:
    pyarrow.parquet.write_table(table(), folder / "data.parquet")


@pytest.mark.parametrize(
    ("model", "data"),
    [(as_onnx, npz), (as_torchscript, image_folders), (as_pt2, csv), (as_zip, parquet)],
    ids=["onnx-npz", "torchscript-images", "pt2-csv", "zip-parquet"],
)
def test_a_job_comes_to_its_end(model: Writer, data: Writer, tmp_path: Path) -> None:
    way = Way("landlock")
    skip_unless_here(way)
    folder = job_folder(tmp_path)
    model(folder)
    data(folder)
    (folder / "spec.json").write_text(json.dumps({"density": 0.3, "epochs": 2, "device": "cpu"}))
    (folder / "job.json").write_text(json.dumps({"checkpoint_seconds": 0.0}))
    command = [sys.executable, "-P", "-m", "prune_engine", "run", str(folder)]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder / "tmp"), "TMPDIR": str(folder / "tmp")}
    child = Child(way.cell(Wish(command, folder, LIMITS)), environment | {"OMP_NUM_THREADS": "1"})
    outcome = finish(child, 250)
    assert outcome.status == 0, (outcome.lines[-1:], outcome.errors[-3000:])
    assert '"type":"done"' in outcome.lines[-1]
    assert list((folder / "out").iterdir()), outcome.lines
