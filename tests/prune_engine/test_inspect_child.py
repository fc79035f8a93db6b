"""`python -m prune_engine inspect DIR`: a folder in, one word on stdout, two files out, quickly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from prune_engine.inspection import Inspection
from tests.prune_engine import inspected


def run(folder: Path) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "prune_engine", "inspect", str(folder)]
    done = subprocess.run(command, capture_output=True, timeout=120)
    lines = done.stdout.splitlines()
    assert len(lines) == 1, done.stderr.decode()
    return done.returncode, json.loads(lines[0])


def written(folder: Path) -> Inspection:
    return Inspection.model_validate_json((folder / "out" / "inspection.json").read_bytes())


def test_a_folder_is_looked_through(tmp_path: Path) -> None:
    onnx.save(inspected.two_layers(), tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=np.ones((40, 4), np.float32), y=np.arange(40) % 3)
    (tmp_path / "spec.json").write_text('{"density": "0.5"}')
    about = {"model_filename": "mine.onnx", "dataset_name": "rows.npz", "notes": ["a note"]}
    (tmp_path / "job.json").write_text(json.dumps(about))
    status, said = run(tmp_path)
    assert status == 0
    assert (said["type"], said["prunable"]) == ("inspected", True)
    found = written(tmp_path)
    assert found.filename == "mine.onnx"
    assert found.data is not None
    assert found.data.name == "rows.npz"
    assert "a note" in found.warnings
    assert all((tmp_path / "out" / name).stat().st_size for name in said["outputs"])


def test_the_model_alone_is_enough_and_a_model_that_cannot_be_pruned_is_no_error(tmp_path: Path) -> None:
    onnx.save(inspected.with_a_stranger(), tmp_path / "model.onnx")
    status, said = run(tmp_path)
    assert (status, said["type"], said["prunable"]) == (0, "inspected", False)
    assert written(tmp_path).problems[0].code == "operator_unsupported"


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [("model.onnx", "no model", "model_format_unknown"), ("spec.json", '{"density": 7}', "spec_invalid")],
)
def test_what_cannot_be_read_is_an_error_event_and_status_2(
    tmp_path: Path, name: str, content: str, code: str
) -> None:
    onnx.save(inspected.two_layers(), tmp_path / "model.onnx")
    (tmp_path / name).write_text(content)
    status, said = run(tmp_path)
    assert (status, said["type"], said["code"]) == (2, "error", code)


def large(path: Path) -> None:
    """100 MB: eleven convolutions of 3 x 3, and a layer at the end."""
    generator = np.random.default_rng(0)
    nodes, constants, here = [], {}, "x"
    for place in range(11):
        width = 16 if place == 0 else 512
        constants[f"w{place}"] = generator.standard_normal((512, width, 3, 3), dtype=np.float32) * 0.01
        attributes = {"pads": [1, 1, 1, 1], "strides": [2, 2] if place < 4 else [1, 1]}
        nodes.append(helper.make_node("Conv", [here, f"w{place}"], [f"c{place}"], **attributes))
        nodes.append(helper.make_node("Relu", [f"c{place}"], [f"r{place}"]))
        here = f"r{place}"
    constants["head"] = generator.standard_normal((10, 512), dtype=np.float32)
    nodes.append(helper.make_node("GlobalAveragePool", [here], ["p"]))
    nodes.append(helper.make_node("Flatten", ["p"], ["f"]))
    nodes.append(helper.make_node("Gemm", ["f", "head"], ["y"], transB=1))
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16, 64, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.mark.slow
def test_a_model_of_100_mb_takes_less_than_five_seconds_of_the_processor(tmp_path: Path) -> None:
    """Python and torch included. Not by the clock, so that a busy machine does not fail it."""
    large(tmp_path / "model.onnx")
    assert 90e6 < (tmp_path / "model.onnx").stat().st_size < 110e6
    before = os.times()
    status, said = run(tmp_path)
    after = os.times()
    assert (status, said["prunable"]) == (0, True)
    taken = after.children_user + after.children_system - before.children_user - before.children_system
    assert taken < 5.0  # 3.5 beside two trainings on 2 cores
    found = written(tmp_path)
    assert found.multiply_adds is not None
    assert found.step is not None
    assert found.memory is not None
