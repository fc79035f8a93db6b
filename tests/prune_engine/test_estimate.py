"""Estimates against a real job: the right size, and never an excuse for a wrong one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from onnx import helper

from prune_engine import inspect, prune
from prune_engine.spec import parse_spec
from tests.prune_engine.formats.graphs import model, values

JOB = """
import json, resource, sys
import numpy as np
from onnx import helper
from prune_engine import PruneSpec, inspect, prune
from tests.prune_engine.formats.graphs import model, values

nodes = [
    helper.make_node("Gemm", ["x", "w1"], ["a"], transB=1, name="first"),
    helper.make_node("Relu", ["a"], ["b"], name="relu"),
    helper.make_node("Gemm", ["b", "w2"], ["y"], transB=1, name="second"),
]
constants = {"w1": values(4096, 2048) * 0.02, "w2": values(8, 4096) * 0.02}
proto = model(nodes, constants, shape=("n", 2048), output=("n", 8))
data = {"x": values(200, 2048)}
spec = {"density": 0.1, "epochs": 6, "batch_size": 16, "learning_rate": 1e-4, "device": "cpu"}
found = inspect(proto, data, spec)
result = prune(proto, data, PruneSpec(**spec))
durations = result.report.durations
print(json.dumps({
    "problems": [problem.code for problem in found.problems],
    "bytes": found.memory.bytes,
    "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "seconds": found.time.seconds,
    "taken": durations["pruning"] + durations["finetuning"],
    "steps": (found.time.steps, result.report.settings["steps_done"]),
    "kept": (found.density.kept, result.report.density.kept),
    "operations": (found.multiply_adds, result.report.operations.before),
}))
"""


@pytest.mark.slow
def test_a_real_job_is_of_the_size_that_was_estimated() -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", JOB], capture_output=True, timeout=250, cwd=root)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    figures = json.loads(done.stdout)
    assert figures["problems"] == []
    assert figures["steps"][0] == figures["steps"][1]
    assert figures["kept"][0] == figures["kept"][1]
    assert figures["operations"][0] == figures["operations"][1]
    assert 0.6 < figures["bytes"] / figures["peak"] < 1.7
    # A clock on a busy machine: only the order of magnitude can be held.
    assert 0.1 < figures["seconds"] / figures["taken"] < 10


def test_the_steps_of_several_densities_are_known_before() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w1"], ["a"], transB=1, name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Gemm", ["b", "w2"], ["y"], transB=1, name="second"),
    ]
    proto = model(nodes, {"w1": values(40, 20), "w2": values(8, 40)}, shape=("n", 20), output=("n", 8))
    data = {"x": values(200, 20)}
    one = inspect(proto, data, {"density": 0.1, "epochs": 6, "device": "cpu"}).time.steps
    fields = {"frontier": "0.5,0.2,0.1", "epochs": 6, "device": "cpu"}
    found = inspect(proto, data, fields)
    assert found.density is not None
    assert found.density.requested == 0.1
    result = prune(proto, data, parse_spec(fields))
    assert found.time.steps == result.report.settings["steps_done"]
    assert one is not None
    assert 1.7 * one < found.time.steps < 2.3 * one
    assert "3 densities take" in found.time.how
    fields = {"target": {"max_error_increase": 0.1}, "epochs": 6, "device": "cpu"}
    searched = inspect(proto, data, fields)
    assert searched.density is not None
    assert searched.density.requested is None
    assert searched.time.steps is not None
    assert 3.0 * one < searched.time.steps < 5.0 * one
