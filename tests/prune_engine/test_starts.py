"""What is pruned and from where it starts, through `prune()`: patterns, the mask alone, fresh weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from prune_engine import PruneResult, PruneSpec, inspect, prune
from prune_engine.data.built_in import digits
from prune_engine.errors import SpecError
from prune_engine.formats import read_values
from prune_engine.inspection_page import render_inspection
from prune_engine.page import render_html
from prune_engine.report import Check
from tests.quantised import float_net, quantise
from tests.trained import digits_net, export

Arrays = dict[str, np.ndarray]
PRUNABLE, FIRST, SECOND, LAST = 6464, 4096, 2048, 320


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained 64-64-32-10 net: weights 1.weight, 3.weight, 5.weight, used by /1/Gemm and so on."""
    path = tmp_path_factory.mktemp("model") / "digits.onnx"
    export(digits_net(digits()), torch.zeros(1, 1, 8, 8), path)
    return path


def pruned(model: Path | onnx.ModelProto, **fields: Any) -> PruneResult:
    return prune(model, digits(), PruneSpec(**{"density": 0.1, **fields}))


def values(proto: onnx.ModelProto) -> Arrays:
    return {item.name: numpy_helper.to_array(item) for item in proto.graph.initializer}


def check(result: PruneResult, name: str) -> Check:
    return next(check for check in result.report.checks if check.name == name)


def test_density_counts_the_weights_that_are_gated_and_the_others_stay_dense(model: Path) -> None:
    result = pruned(model, exclude=("*5*",), epochs=2)
    density, after = result.report.density, values(result.model)
    assert set(result.masks) == {"1.weight", "3.weight"} == {row.name for row in result.report.layers}
    assert (density.kept, density.prunable) == (round(0.1 * (FIRST + SECOND)), FIRST + SECOND)
    assert np.count_nonzero(after["5.weight"]) == LAST
    assert not np.array_equal(after["5.weight"], values(onnx.load(model))["5.weight"]), "it is trained"
    everything = sum(int(np.count_nonzero(value)) for value in after.values())
    assert density.nonzero_parameters == everything
    assert density.of_all_parameters == pytest.approx(everything / (PRUNABLE + 106))
    assert result.report.model.prunable == PRUNABLE
    (left,) = result.report.left_out
    assert (left.name, left.kind, left.shape) == ("5.weight", "Gemm", (10, 32))
    page = render_html(result.report)
    assert "Left out" in page
    assert left.reason.replace("'", "&#39;") in page


def test_nodes_have_names_for_patterns_and_the_inspection_shows_both(model: Path) -> None:
    found = inspect(model, spec={"include": ["/1/*", "3.weight"], "density": 0.1})
    assert [(weight.name, weight.nodes) for weight in found.weights] == [
        ("1.weight", ("/1/Gemm",)),
        ("3.weight", ("/3/Gemm",)),
    ]
    assert sum(weight.share for weight in found.weights) == pytest.approx(1.0)
    assert [left.name for left in found.left_out] == ["5.weight"]
    page = render_inspection(found)
    assert "1 more weight is left out, with 320 values." in page
    assert "no pattern of include fits it" in page
    assert found.parameters.prunable == FIRST + SECOND
    assert found.density is not None
    assert found.density.kept == round(0.1 * (FIRST + SECOND))


def test_every_name_that_an_inspection_shows_is_a_pattern(model: Path) -> None:
    for weight in inspect(model).weights:
        for name in (weight.name, *weight.nodes):
            chosen = inspect(model, spec={"include": [name]}).weights
            assert [one.name for one in chosen] == [weight.name]


def test_patterns_that_fit_nothing_are_refused_before_anything_is_done(model: Path) -> None:
    with pytest.raises(
        SpecError, match=r"'fc3' matches no prunable weight.*'5.weight' \(node /5/Gemm\)"
    ) as no:
        pruned(model, exclude=("fc3",))
    assert no.value.param == "exclude"
    problem = inspect(model, spec={"exclude": ["fc3"]}).problems[0]
    assert (problem.code, problem.param, problem.message) == ("spec_invalid", "exclude", no.value.message)


@pytest.mark.parametrize("fields", [{}, {"method": "magnitude"}, {"granularity": "1:4", "density": None}])
def test_only_the_mask_is_learned_and_every_value_has_its_bits(model: Path, fields: dict[str, Any]) -> None:
    result = pruned(model, train_weights=False, epochs=20, **fields)
    before, after = values(onnx.load(model)), values(result.model)
    for name, value in after.items():
        expected = np.where(result.masks[name], before[name], 0) if name in result.masks else before[name]
        assert value.tobytes() == expected.astype(value.dtype).tobytes(), name
    assert check(result, "no weight is trained").passed
    assert "0 of 6570 values" in check(result, "no weight is trained").detail
    report = result.report
    assert report.quality.pruned.value > (80 if "method" not in fields else 20)
    assert report.quality.pruned.value == report.quality.before_finetuning.value
    assert report.settings["learning_rate"] == 0.0
    assert "no weight was trained" in render_html(report)


def test_a_mask_alone_keeps_the_statistics_of_batch_norm(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
    net.train()(torch.rand(100, 1, 8, 8))
    path = tmp_path / "norm.onnx"
    torch.onnx.export(
        net.eval(),
        (torch.zeros(2, 1, 8, 8),),
        str(path),
        dynamo=False,
        do_constant_folding=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        input_names=["x"],
        dynamic_axes={"x": {0: "n"}},
    )
    fields = {"train_weights": False, "preprocess": {"scale": 1 / 16, "layout": "nchw"}, "epochs": 2}
    result = pruned(path, density=0.5, **fields)
    before, after = values(onnx.load(path)), values(result.model)
    assert all(np.array_equal(before[name], after[name]) for name in before if name not in result.masks)
    assert any("running statistics" in warning for warning in result.report.warnings)


def test_zeros_that_came_and_are_kept_do_not_fail_a_mask(model: Path) -> None:
    sent = onnx.load(model)
    weight = next(item for item in sent.graph.initializer if item.name == "1.weight")
    holes = numpy_helper.to_array(weight).copy()
    holes[:, 10:] = 0.0
    weight.CopyFrom(numpy_helper.from_array(holes, weight.name))
    result = pruned(sent, density=0.9, train_weights=False, epochs=1)
    assert sum(int(mask.sum()) for mask in result.masks.values()) == round(0.9 * PRUNABLE)
    assert "came as zeros" in check(result, "exact density").detail
    assert result.report.density.kept < round(0.9 * PRUNABLE)


def test_only_the_mask_of_a_quantised_model_is_learned(tmp_path: Path) -> None:
    data = digits()
    sent = quantise(float_net(data, tmp_path), data, "by channel")
    result = prune(sent, data, PruneSpec(density=0.3, train_weights=False, epochs=5))
    stored = read_values(sent, result.masks, as_stored=True), read_values(result.model, result.masks, True)
    floats = read_values(result.model, result.masks)
    for name, mask in result.masks.items():
        assert np.array_equal(stored[0][name][mask], stored[1][name][mask])
        assert not floats[name][~mask].any()
    before, after = values(sent), values(result.model)
    assert all(np.array_equal(before[name], after[name]) for name in before if name not in result.masks)
    assert result.report.quality.pruned.value > 80


def test_fresh_weights_of_an_untrained_file_are_trained_and_pruned_at_once(tmp_path: Path) -> None:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    export(net, torch.zeros(1, 1, 8, 8), tmp_path / "fresh.onnx")
    result = pruned(tmp_path / "fresh.onnx", init="random", epochs=30)
    report = result.report
    assert report.quality.dense.value < 40
    assert report.quality.pruned.value > 85
    assert report.settings["distillation"] == 0.0
    assert report.data.preprocess.name.startswith("the data's mean and std")
    assert any("fresh weights" in warning for warning in report.warnings)
    assert "started from fresh weights" in render_html(report)


def test_nothing_of_the_weights_that_were_sent_is_in_a_run_from_fresh_ones(model: Path) -> None:
    """What starts with the same seed ends with the same bits, whatever the file's own values were."""
    other = onnx.load(model)
    for item in other.graph.initializer:
        item.CopyFrom(numpy_helper.from_array(-2 * numpy_helper.to_array(item), item.name))
    fields = {"init": "random", "epochs": 1, "preprocess": {"scale": 1 / 16, "layout": "nchw"}}
    first, second = (values(pruned(sent, **fields).model) for sent in (onnx.load(model), other))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_density_one_from_fresh_weights_is_a_plain_training(model: Path) -> None:
    result = pruned(model, density=1.0, init="random", epochs=10)
    assert result.report.quality.pruned.value > 85
    assert result.report.density.kept == PRUNABLE


def test_a_supermask_keeps_fresh_weights_as_they_were_drawn(model: Path) -> None:
    fields = {"init": "random", "train_weights": False, "density": 0.5, "seed": 4}
    result, again = (pruned(model, epochs=epochs, **fields) for epochs in (30, 1))
    first, second = values(result.model), values(again.model)
    for name, mask in result.masks.items():
        both = mask & again.masks[name]
        assert both.any()
        assert np.array_equal(first[name][both], second[name][both])
    assert not np.array_equal(result.masks["1.weight"], again.masks["1.weight"])
    assert result.report.quality.pruned.value > 50
    assert check(result, "no weight is trained").passed


def test_a_teacher_is_the_model_as_it_was_sent(model: Path) -> None:
    """Without labels fresh weights learn all that they know from the dense model."""
    rows = {"x": digits()["x_train"].astype(np.float32)[:, None] / 16}
    result = prune(model, rows, PruneSpec(density=0.3, init="random", epochs=30))
    assert result.report.data.task == "distillation"
    assert result.report.quality.pruned.value < 0.5


def test_lenet_from_fresh_weights_at_a_tenth(shared_datasets: Path, tmp_path: Path) -> None:
    with np.load(shared_datasets / "mnist.npz") as arrays:
        data = {name: arrays[name][: 8000 if "train" in name else 1000] for name in arrays.files}
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )
    export(net, torch.zeros(1, 1, 28, 28), tmp_path / "lenet.onnx")
    result = prune(tmp_path / "lenet.onnx", data, PruneSpec(density=0.1, init="random", epochs=8))
    assert result.report.density.kept == 26_620
    assert result.report.quality.pruned.value > 93
