"""`prune()` from Python: every kind of task, exact at any density, honest figures."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from torch import nn

import prune_engine
from prune_engine import PruneResult, PruneSpec, prune
from prune_engine.data.built_in import digits
from prune_engine.errors import DeviceError, ModelError, SpecError, VerificationError
from prune_engine.events import ProgressEvent, StageEvent, WarningEvent
from prune_engine.page import render_html
from tests.prune_engine.formats.graphs import model as graph_model
from tests.prune_engine.formats.graphs import values
from tests.trained import digits_net, export


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "digits.onnx"
    export(digits_net(digits()), torch.zeros(1, 1, 8, 8), path)
    return path


def nonzero(result: PruneResult) -> int:
    values = {item.name: onnx.numpy_helper.to_array(item) for item in result.model.graph.initializer}
    return sum(int(np.count_nonzero(values[name])) for name in result.masks)


def accuracy(result: PruneResult) -> float:
    data = digits()
    session = onnxruntime.InferenceSession(result.model.SerializeToString())
    (output,) = session.run(None, {"x": data["x_test"].astype(np.float32).reshape(-1, 1, 8, 8) / 16})
    return 100 * float((output.argmax(1) == data["y_test"]).mean())


@settings(max_examples=8, deadline=None)
@given(density=st.floats(0.002, 1.0))
def test_the_density_is_exact_whatever_is_asked(model: Path, density: float) -> None:
    result = prune(model, digits(), PruneSpec(density=density, epochs=1, batch_size=512))
    assert nonzero(result) == round(density * 6464) == result.report.density.kept
    assert sum(int(mask.sum()) for mask in result.masks.values()) == nonzero(result)


@pytest.mark.parametrize("method", ["gumbel", "magnitude"])
def test_a_tenth_of_the_weights_is_nearly_as_good(model: Path, method: str) -> None:
    result = prune(model, digits(), PruneSpec(density=0.1, method=method, epochs=60))
    assert result.report.quality.dense.value > 95
    assert result.report.quality.pruned.value > result.report.quality.dense.value - 5


def test_a_short_training_still_falls_to_the_density_step_by_step(model: Path) -> None:
    """66 steps: were the gates left open until the mask is fixed, half of the accuracy would be gone."""
    result = prune(model, digits(), PruneSpec(density=0.1, epochs=3))
    assert result.report.quality.pruned.value > 75


def test_the_reported_accuracy_is_what_the_file_has(model: Path) -> None:
    result = prune(model, digits(), PruneSpec(density=0.2, epochs=5))
    assert result.report.quality.pruned.value == pytest.approx(accuracy(result))
    assert result.report.quality.pruned.rows == len(digits()["y_test"])


def test_without_labels_the_dense_model_is_the_teacher(model: Path) -> None:
    result = prune(model, {"x": digits()["x_train"].astype(np.float32)[:, None] / 16}, PruneSpec(density=0.2))
    assert result.report.data.task == "distillation"
    assert result.report.quality.metric.name == "relative_error"
    assert result.report.quality.dense.value == 0.0
    assert accuracy(result) > 88


def test_a_batch_size_in_the_file_stays_and_does_not_hinder(tmp_path: Path) -> None:
    net = digits_net(digits()).eval()
    path = tmp_path / "fixed.onnx"
    torch.onnx.export(net, (torch.zeros(4, 1, 8, 8),), str(path), dynamo=False)
    result = prune(path, digits(), PruneSpec(density=0.2, epochs=10))
    assert [dim.dim_value for dim in result.model.graph.input[0].type.tensor_type.shape.dim] == [4, 1, 8, 8]
    assert result.report.quality.pruned.value > 85


def test_fewer_held_out_rows_than_the_batch_size_in_the_file_will_do(tmp_path: Path) -> None:
    data = digits()
    path = tmp_path / "fixed.onnx"
    torch.onnx.export(digits_net(data).eval(), (torch.zeros(64, 1, 8, 8),), str(path), dynamo=False)
    few = {**data, "x_test": data["x_test"][:20], "y_test": data["y_test"][:20]}
    result = prune(path, few, PruneSpec(density=0.3, epochs=2))
    assert result.report.quality.pruned.rows == 20
    latency = result.report.latency
    assert latency is not None
    assert latency.batch == 64


def test_nothing_but_trained_values_differs_from_what_was_sent(model: Path) -> None:
    sent = onnx.load(model)
    result = prune(sent, digits(), PruneSpec(density=0.3, epochs=1))
    added = {item.key: item.value for item in result.model.metadata_props}
    assert added == {"prunery.density": "0.3", "prunery.version": version("prunery")}
    del result.model.metadata_props[:]
    for proto in (sent, result.model):
        for item in proto.graph.initializer:
            item.ClearField("raw_data")
            item.ClearField("float_data")
    assert result.model == sent


def test_a_model_that_torch_does_not_compute_alike_is_refused_before_the_training() -> None:
    """onnxruntime pads a dilated pool as if it were not dilated, which the specification does not."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"]),
        helper.make_node(
            "MaxPool", ["h"], ["p"], kernel_shape=[3, 3], dilations=[2, 2], auto_pad="SAME_UPPER"
        ),
        helper.make_node("GlobalAveragePool", ["p"], ["q"]),
        helper.make_node("Flatten", ["q"], ["y"]),
    ]
    proto = graph_model(nodes, {"w": values(4, 3, 1, 1)}, shape=("n", 3, 8, 8), output=("n", 4))
    stages: list[str] = []

    def listen(event: Any) -> None:
        stages.append(getattr(event, "stage", ""))

    rows = {"x": np.random.default_rng(0).normal(size=(60, 3, 8, 8)).astype(np.float32)}
    with pytest.raises(VerificationError, match="torch computes something else"):
        prune(proto, rows, PruneSpec(density=0.5), listener=listen)
    assert "baseline" in stages
    assert "pruning" not in stages


def test_density_one_prunes_nothing(model: Path) -> None:
    result = prune(model, digits(), PruneSpec(density=1.0, epochs=1))
    assert result.report.density.reached == 1.0
    assert result.report.quality.pruned.value > 90


def test_density_one_leaves_every_bit_as_it_is(model: Path) -> None:
    result = prune(model, digits(), PruneSpec(density=1.0))
    del result.model.metadata_props[:]
    assert result.model == onnx.load(model)
    assert result.report.quality.pruned.value == result.report.quality.dense.value
    assert result.report.settings["steps_done"] == 0
    assert "<svg" in render_html(result.report)


def test_density_one_keeps_the_zeros_that_a_model_came_with(model: Path) -> None:
    sent = onnx.load(model)
    weight = next(item for item in sent.graph.initializer if len(item.dims) > 1)
    holes = numpy_helper.to_array(weight).copy()
    holes.flat[0] = 0.0
    weight.CopyFrom(numpy_helper.from_array(holes, weight.name))
    result = prune(sent, digits(), PruneSpec(density=1.0))
    assert result.report.density.kept == result.report.density.prunable - 1


def test_the_listener_hears_stages_progress_and_the_end(model: Path) -> None:
    heard: list[StageEvent | ProgressEvent | WarningEvent] = []
    prune(model, digits(), PruneSpec(density=0.3, epochs=2), listener=heard.append)
    stages = [event.stage for event in heard if isinstance(event, StageEvent)]
    assert stages == ["preparing", "baseline", "pruning", "finetuning", "exporting", "verifying"]
    fractions = [event.progress.fraction for event in heard if isinstance(event, ProgressEvent)]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_a_density_that_keeps_nothing_names_the_smallest_one(model: Path) -> None:
    with pytest.raises(SpecError, match="smallest density"):
        prune(model, digits(), PruneSpec(density=1e-6))


def test_a_device_that_is_not_there_is_refused(model: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(DeviceError):
        prune(model, digits(), PruneSpec(density=0.5, device="cuda"))


def test_cuda_gives_what_the_cpu_gives(model: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    result = prune(model, digits(), PruneSpec(density=0.1, epochs=60, device="cuda"))
    assert nonzero(result) == round(0.1 * 6464)
    assert accuracy(result) > 90


def test_a_file_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        prune(tmp_path / "none.onnx", digits(), PruneSpec(density=0.5))


def test_batch_norm_is_trained_and_written_back(tmp_path: Path) -> None:
    data = digits()
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(512, 10)),
    )
    x = torch.from_numpy(data["x_train"]).float()[:, None] / 16
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(5):
        for rows in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(
                net(x[rows]), torch.from_numpy(data["y_train"]).long()[rows]
            ).backward()
            optimiser.step()
    path = tmp_path / "norm.onnx"
    net.eval()
    torch.onnx.export(
        net,
        (x[:1],),
        str(path),
        dynamo=False,
        do_constant_folding=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        input_names=["x"],
        dynamic_axes={"x": {0: "batch"}},
    )
    sent = onnx.load(path)
    assert "BatchNormalization" in {node.op_type for node in sent.graph.node}
    result = prune(path, data, PruneSpec(density=0.2, epochs=20))
    before, after = (
        {item.name: onnx.numpy_helper.to_array(item) for item in proto.graph.initializer}
        for proto in (sent, result.model)
    )
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {name for name in before if "running" in name} <= changed
    assert result.report.quality.pruned.value > 85


def test_the_public_surface_is_what_it_says() -> None:
    assert all(hasattr(prune_engine, name) for name in prune_engine.__all__)
    with pytest.raises(AttributeError):
        _ = prune_engine.no_such_name
