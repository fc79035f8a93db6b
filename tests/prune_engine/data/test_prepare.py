from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from prune_engine.data import data_from_arrays, read_data
from prune_engine.data.built_in import digits
from prune_engine.errors import (
    DataError,
    LabelRangeError,
    ModelError,
    NotFiniteError,
    PreprocessError,
    ShapeMismatchError,
    SpecError,
    TooFewSamplesError,
)
from prune_engine.measure import measure_quality, session
from prune_engine.spec import Preprocess, PruneSpec
from tests.prune_engine.data.nets import digits_layers, mlp, model_of, prepared_for


def random_layers(*sizes: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [(rng.normal(size=pair), rng.normal(size=pair[1])) for pair in pairwise(sizes)]


@pytest.mark.parametrize(
    ("scale", "mean", "std", "found"),
    [
        (1 / 16, 0.0, 1.0, "[0, 1] from [0, 16]"),
        (1.0, 0.0, 1.0, "[0, 16]"),
        (1 / 16, 0.5, 0.5, "[-1, 1]"),
    ],
)
def test_the_scaling_that_the_net_was_trained_with_is_found(
    scale: float, mean: float, std: float, found: str
) -> None:
    prepared = prepared_for(mlp(digits_layers(scale, mean, std), (1, 8, 8)), digits())
    info = prepared.info.preprocess
    assert info.name.startswith(found)
    assert (info.chosen.scale, info.chosen.mean, info.chosen.std) == (scale, (mean,), (std,))
    assert len(info.candidates) > 4
    assert "training rows" in info.why


def test_a_prepared_classification_says_all_that_training_needs() -> None:
    data = digits()
    prepared = prepared_for(mlp(digits_layers(), (1, 8, 8)), data)
    (inputs,), labels = prepared.train.batch(slice(0, 5))
    assert inputs.shape == (5, 1, 8, 8)
    assert labels is not None
    assert labels.tolist() == data["y_train"][:5].tolist()
    assert (prepared.task, prepared.loss, prepared.outputs_are) == (
        "classification",
        "cross_entropy",
        "logits",
    )
    assert (prepared.classes, len(prepared.train), len(prepared.holdout)) == (10, 1438, 359)
    assert prepared.info.holdout_source == "test split"
    assert (prepared.metric.name, prepared.metric.unit) == ("accuracy", "%")


@pytest.mark.parametrize("end", ["Softmax", "LogSoftmax"])
def test_what_the_net_ends_with_is_seen(end: str) -> None:
    prepared = prepared_for(mlp(digits_layers(), end=end), digits())
    assert prepared.info.preprocess.name.startswith("[0, 1] from [0, 16]")
    assert prepared.outputs_are == ("probabilities" if end == "Softmax" else "logits")


def test_nothing_is_chosen_on_the_held_out_rows() -> None:
    data = digits()
    model = mlp(digits_layers(), (1, 8, 8))
    nonsense = data | {"x_test": data["x_test"][::-1] * 0, "y_test": data["y_test"] * 0}
    first, second = prepared_for(model, data), prepared_for(model, nonsense)
    assert first.info.preprocess == second.info.preprocess


@pytest.mark.parametrize("batch", [1, 7, 200])
def test_a_batch_size_in_the_graph_is_respected(batch: int) -> None:
    data = digits()
    free, fixed = (mlp(digits_layers(), batch=size) for size in ("N", batch))
    prepared = prepared_for(fixed, data)
    assert prepared.fixed_batch == batch
    value = measure_quality(session(fixed, 1), prepared.holdout, prepared).value
    usual = prepared_for(free, data)
    assert value == pytest.approx(measure_quality(session(free, 1), usual.holdout, usual).value)


@pytest.mark.parametrize(
    ("element", "scale"), [(TensorProto.FLOAT16, 1 / 16), (TensorProto.UINT8, 1.0), (TensorProto.INT32, 1.0)]
)
def test_inputs_of_other_types_are_fed(element: int, scale: float) -> None:
    prepared = prepared_for(mlp(digits_layers(scale), (8, 8), element=element), digits())
    feed = prepared.train.feed(slice(0, 3))["input"]
    assert feed.dtype == helper.tensor_dtype_to_np_dtype(element)
    assert feed.max() > 0


def test_an_untrained_net_is_refused_with_the_scores_and_the_way_out() -> None:
    with pytest.raises(PreprocessError) as caught:
        prepared_for(mlp(random_layers(64, 10), (8, 8)), digits())
    message = caught.value.message
    assert "[-1, 1]" in message
    assert "%" in message
    assert "set preprocess explicitly" in message
    assert caught.value.param == "preprocess"


@pytest.mark.parametrize("seed", range(5))
def test_no_untrained_net_is_taken_for_a_trained_one_by_luck(seed: int) -> None:
    weight = np.random.default_rng(seed).normal(size=(64, 10)) / 8
    with pytest.raises(PreprocessError):
        prepared_for(mlp([(weight, np.zeros(10))], (8, 8)), digits())


def test_an_untrained_net_is_welcome_with_an_explicit_preprocess() -> None:
    step = Preprocess(scale=1 / 16, mean=(0.25,), layout="flat")
    prepared = prepared_for(mlp(random_layers(64, 10)), digits(), preprocess=step)
    assert prepared.info.preprocess.chosen == step
    assert prepared.info.preprocess.candidates == []
    (inputs,), _ = prepared.train.batch(slice(0, 2))
    assert np.allclose(inputs.numpy(), digits()["x_train"][:2].reshape(2, 64) / 16 - 0.25)


def test_a_start_from_fresh_weights_needs_no_trained_net_and_standardises_the_rows() -> None:
    prepared = prepared_for(mlp(random_layers(64, 10), (1, 8, 8)), digits(), init="random")
    info = prepared.info.preprocess
    assert info.name.startswith("the data's mean and std")
    assert "fresh" in info.why
    assert len(info.candidates) > 4
    assert any("set preprocess" in warning for warning in prepared.warnings)
    (inputs,), _ = prepared.train.batch(slice(0, len(prepared.train)))
    assert abs(float(inputs.mean())) < 1e-3
    assert abs(float(inputs.std()) - 1) < 1e-2


def test_a_start_from_fresh_weights_keeps_the_preprocessing_of_a_trained_net() -> None:
    prepared = prepared_for(mlp(digits_layers(), (1, 8, 8)), digits(), init="random")
    assert prepared.info.preprocess.name.startswith("[0, 1] from [0, 16]")


def test_a_teacher_must_be_better_than_chance_whatever_training_starts_from() -> None:
    with pytest.raises(PreprocessError):
        prepared_for(mlp(random_layers(64, 10), (8, 8)), digits(), init="random", distillation=0.5)


def test_numbers_are_learned_from_fresh_weights_as_they_came() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(400, 6)) * (1, 10, 100, 1, 1, 1)).astype(np.float32)
    y = (1000 + 50 * x[:, :1] - 3 * x[:, 1:2]).astype(np.float32)
    prepared = prepared_for(mlp(random_layers(6, 8, 1)), {"x": x, "y": y}, init="random")
    assert prepared.target_scale.name == "as is"
    _, labels = prepared.train.batch(slice(0, len(prepared.train)))
    assert labels is not None
    assert 900 < float(labels.mean()) < 1100


def test_an_explicit_preprocess_must_fit_the_model() -> None:
    model = mlp(random_layers(64, 10), (8, 8))
    with pytest.raises(ShapeMismatchError, match=r"\(8, 8\).*layout nchw"):
        prepared_for(model, digits(), preprocess=Preprocess(layout="nchw"))
    with pytest.raises(SpecError, match="3 values"):
        prepared_for(model, digits(), preprocess=Preprocess(mean=(0.0, 0.0, 0.0)))


def test_two_classes_on_one_output() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)).astype(np.float32)
    layers = [(np.array([[1.0], [-2.0], [0.5]]), np.zeros(1))]
    y = (x @ layers[0][0] > 0).ravel().astype(int)
    for end, kind in ((None, "logits"), ("Sigmoid", "probabilities")):
        model = mlp(layers, end=end)
        prepared = prepared_for(model, {"x": x, "y": y})
        assert (prepared.task, prepared.classes, prepared.outputs_are) == ("classification", 2, kind)
        assert measure_quality(session(model, 1), prepared.holdout, prepared).value == 100


def regression_data(rows: int = 300) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, size=(rows, 4)), random_layers(4, 6, 2)


def forward(layers: list[tuple[np.ndarray, np.ndarray]], x: np.ndarray) -> np.ndarray:
    for index, (weight, bias) in enumerate(layers):
        x = x @ weight + bias
        x = np.maximum(x, 0) if index < len(layers) - 1 else x
    return x


def test_several_targets_are_a_regression() -> None:
    x, layers = regression_data()
    prepared = prepared_for(mlp(layers), {"x": x, "y": forward(layers, x)}, loss="mae")
    assert (prepared.task, prepared.loss, prepared.metric.name) == ("regression", "mae", "mae")
    assert prepared.info.preprocess.name == "as is"
    quality = measure_quality(session(mlp(layers), 1), prepared.holdout, prepared)
    assert quality.value < 1e-5


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("divided by 1e5", lambda y: 1e5 * y),
        ("standardised", None),
    ],
)
def test_targets_on_another_scale_are_noticed_and_reported_in_their_own_unit(
    name: str, change: object
) -> None:
    x, layers = regression_data()
    weight, bias = layers[-1]
    target = forward(layers, x)[:, :1]
    layers[-1] = weight[:, :1], bias[:1]
    if callable(change):
        y = change(target)
    else:
        mean, std = target.mean(), target.std()
        y = 1000 + 50 * (target - mean) / std
        layers[-1] = layers[-1][0] / std, (layers[-1][1] - mean) / std
    prepared = prepared_for(mlp(layers), {"x": x, "y": y})
    assert any(name in warning for warning in prepared.warnings)
    quality = measure_quality(session(mlp(layers), 1), prepared.holdout, prepared)
    assert quality.value < 0.01 * y.var()
    _, labels = prepared.train.batch(slice(None))
    assert labels is not None
    assert float(labels.abs().max()) < 100


def test_targets_on_no_usual_scale_are_refused_with_the_line_found() -> None:
    x, layers = regression_data()
    with pytest.raises(PreprocessError, match=r"labels are about 3\.7 \* output \+12"):
        prepared_for(mlp(layers), {"x": x, "y": 3.7 * forward(layers, x) + 12})


def test_a_net_that_predicts_nothing_of_the_numbers_is_refused() -> None:
    x, layers = regression_data()
    with pytest.raises(PreprocessError, match="better than their mean"):
        prepared_for(mlp(layers), {"x": x, "y": np.random.default_rng(5).normal(size=(300, 2))})


def test_standardised_columns_are_found() -> None:
    x, layers = regression_data()
    wide = x * (1.0, 50.0, 1e4, 0.01) + (0.0, 100.0, 5e4, 1.0)
    trained_on = (wide - wide.mean(axis=0)) / wide.std(axis=0)
    y = forward(layers, trained_on)
    held = {"x_train": wide, "y_train": y, "x_test": wide[:20], "y_test": y[:20]}
    prepared = prepared_for(mlp(layers), held)
    assert prepared.info.preprocess.name == "standardised columns"
    assert measure_quality(session(mlp(layers), 1), prepared.holdout, prepared).value < 1e-6


def test_without_labels_the_dense_model_is_distilled() -> None:
    x, layers = regression_data()
    prepared = prepared_for(mlp(layers), {"x": x})
    assert (prepared.task, prepared.metric.name) == ("distillation", "relative_error")
    assert prepared.train.labels is None
    runtime = session(mlp(layers), 1)
    assert measure_quality(runtime, prepared.holdout, prepared, runtime).value == 0


def test_unlabelled_bytes_are_scaled_and_the_user_is_told() -> None:
    prepared = prepared_for(mlp(digits_layers(), (8, 8), output="logits"), {"x": digits()["x_train"]})
    assert prepared.info.preprocess.chosen.scale == pytest.approx(1 / 16)
    assert prepared.metric.name == "agreement"
    assert any("could not be checked" in warning for warning in prepared.warnings)


def two_inputs() -> onnx.ModelProto:
    floats = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in ("left", "right")]
    out = helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["N", 2])
    return model_of(
        helper.make_graph([helper.make_node("Add", ["left", "right"], ["sum"])], "g", floats, [out])
    )


def test_arrays_are_matched_to_inputs_by_name_in_the_models_order() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, 40, 2))
    arrays = {"right": right, "left": left, "extra": left, "labels": left + right}
    prepared = prepared_for(two_inputs(), arrays)
    feed = prepared.train.feed(slice(0, 3))
    assert list(feed) == ["left", "right"]
    assert prepared.task == "regression"
    assert "'extra': not used, the model has no such input." in prepared.warnings


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda d: d | {"y_train": d["y_train"] + 1}, LabelRangeError, "from 1 to 10, but"),
        (lambda d: d | {"y_test": d["y_test"] * 2}, LabelRangeError, "held-out labels go from 0 to 18"),
        (lambda d: {"x": d["x_train"][:3], "y": d["y_train"][:3]}, TooFewSamplesError, "too few"),
        (
            lambda d: {"x": d["x_train"][:, :7], "y": d["y_train"]},
            ShapeMismatchError,
            r"\(7, 8\).*\(8, 8\).*tried",
        ),
        (
            lambda d: {"a": d["x_train"], "b": d["x_train"], "y": d["y_train"]},
            ShapeMismatchError,
            "nothing feeds",
        ),
        (
            lambda d: {"x": np.where(np.arange(8) == 3, np.nan, d["x_train"] / 16), "y": d["y_train"]},
            NotFiniteError,
            "11504 NaN values",
        ),
        (lambda d: {"x": np.array(["words"] * 20), "y": np.arange(20) % 2}, DataError, "no tokenizer"),
    ],
)
def test_data_that_does_not_fit_is_refused_before_training(
    change: object, error: type[DataError], says: str
) -> None:
    assert callable(change)
    with pytest.raises(error, match=says):
        prepared_for(mlp(digits_layers(), (8, 8)), change(digits()))


def test_an_input_type_that_data_cannot_have_is_the_models_fault() -> None:
    text = helper.make_tensor_value_info("input", TensorProto.STRING, ["N"])
    out = helper.make_tensor_value_info("out", TensorProto.STRING, ["N"])
    model = model_of(
        helper.make_graph([helper.make_node("Identity", ["input"], ["out"])], "g", [text], [out])
    )
    with pytest.raises(ModelError, match="of type"):
        prepared_for(model, {"x": np.zeros((20,), np.float32)})


def test_missing_values_of_california_housing_are_named(shared_datasets: Path) -> None:
    raw = read_data(
        shared_datasets / "california_housing.npz", PruneSpec(density=0.5), name="housing", source="named"
    )
    with pytest.raises(NotFiniteError, match=r"NaN values in column 'total_bedrooms'.*fill them"):
        prepared_for(mlp(random_layers(13, 1)), raw)


def test_resnet20_is_found_to_want_imagenets_mean_and_std(shared_models: Path, shared_datasets: Path) -> None:
    model = onnx.load(shared_models / "cifar10_resnet" / "resnet20.onnx")
    with np.load(shared_datasets / "cifar10.npz") as data:
        part = {
            name: data[name][:500] if name.endswith("test") else data[name][:300]
            for name in ("x_train", "y_train", "x_test", "y_test")
        }
    prepared = prepared_for(model, data_from_arrays(part, name="cifar10"))
    assert prepared.info.preprocess.name == "ImageNet mean and std, NHWC -> nchw"
    quality = measure_quality(session(model, 1), prepared.holdout, prepared)
    assert quality.rows == 500
    assert quality.value > 88


def test_a_graph_that_takes_single_rows_without_saying_so_is_fed_one_by_one() -> None:
    model = mlp(digits_layers())
    reshape = helper.make_node("Reshape", ["output", "one_row"], ["single"])
    model.graph.node.append(reshape)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 10]), "one_row"))
    model.graph.output[0].name = "single"
    prepared = prepared_for(model, digits())
    assert prepared.fixed_batch == 1
    assert measure_quality(session(model, 1), prepared.holdout, prepared).value > 90


@pytest.mark.parametrize(
    ("scale", "mean", "std", "found"),
    [(1 / 255, 0.0, 1.0, "[0, 1]"), (1 / 255, 0.5, 0.5, "[-1, 1]"), (1.0, 0.0, 1.0, "as is")],
)
def test_images_sent_as_flat_floats_are_tried_as_images(
    scale: float, mean: float, std: float, found: str
) -> None:
    data = digits()
    pixels = {name: data[name].reshape(-1, 64) * 15.0 for name in ("x_train", "x_test")}
    weight, bias = digits_layers()[0]
    first = weight * std / (scale * 15 * 16), bias + (weight * mean / (scale * 15 * 16)).sum(axis=0)
    prepared = prepared_for(mlp([first, digits_layers()[1]]), data | pixels)
    assert prepared.info.preprocess.name == found


def test_column_means_are_taken_of_all_training_rows() -> None:
    rng = np.random.default_rng(0)
    x = rng.exponential(100, size=(5000, 3))
    layers = [(rng.normal(size=(3, 1)), np.zeros(1))]
    y = forward(layers, (x - x.mean(axis=0)) / x.std(axis=0))
    prepared = prepared_for(mlp(layers), {"x_train": x, "y_train": y, "x_test": x[:50], "y_test": y[:50]})
    assert np.allclose(prepared.info.preprocess.chosen.mean, x.mean(axis=0))


def test_splits_with_rows_of_different_shapes_are_refused() -> None:
    with pytest.raises(ShapeMismatchError, match=r"\(64,\) in the train split and \(63,\)"):
        data_from_arrays({"x_train": np.zeros((20, 64)), "x_test": np.zeros((5, 63))})
