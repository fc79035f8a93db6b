"""What is said of a model before a job: everything that a person would ask, and everything that is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from prune_engine import Inspection, PruneError, PruneSpec, inspect, prune
from prune_engine.spec import parse_spec
from tests.prune_engine import inspected
from tests.prune_engine.formats.graphs import values


def looked(proto: onnx.ModelProto, data: Any = None, **spec: Any) -> Inspection:
    return inspect(proto, data, {"device": "cpu", **spec})


def rows(count: int = 40, width: int = 4, classes: int = 3) -> dict[str, np.ndarray]:
    return {"x": values(count, width), "y": np.arange(count) % classes}


def test_a_sound_model_is_described_whole() -> None:
    found = looked(inspected.two_layers())
    assert (found.prunable, found.problems) == (True, [])
    assert (found.format, found.route, found.opsets, found.ir_version) == (
        "onnx",
        "as sent",
        {"ai.onnx": 17},
        8,
    )
    assert [(t.name, t.dtype, t.shape) for t in found.inputs] == [("x", "float32", ("n", 4))]
    assert {o.name: (o.count, o.supported) for o in found.operators} == {"Gemm": (2, True), "Relu": (1, True)}
    assert [(w.name, w.kind, w.shape, w.count, w.outputs, w.nodes) for w in found.weights] == [
        ("w1", "Gemm", (6, 4), 24, 6, ("first",)),
        ("w2", "Gemm", (3, 6), 18, 3, ("second",)),
    ]
    assert sum(weight.share for weight in found.weights) == pytest.approx(1)
    assert {(c.name, c.shape, c.count) for c in found.not_prunable} == {("b1", (6,), 6), ("b2", (3,), 3)}
    assert all("bias" in constant.reason for constant in found.not_prunable)
    assert (found.parameters.total, found.parameters.prunable) == (51, 42)
    assert found.multiply_adds == 4 * 6 + 6 * 3
    assert found.measured_with == {"x": (1, 4)}


def test_an_inspection_survives_its_json() -> None:
    found = looked(inspected.two_layers(), density=0.5)
    assert Inspection.model_validate_json(found.model_dump_json()) == found


def test_the_density_is_resolved_to_whole_weights() -> None:
    outlook = looked(inspected.two_layers(), density=0.1).density
    assert outlook is not None
    assert (outlook.smallest, outlook.step) == (3 / 42, 1 / 42)  # the last layer has 3 outputs
    assert (outlook.requested, outlook.kept, outlook.reached) == (0.1, 4, 4 / 42)
    nothing_asked = looked(inspected.two_layers()).density
    assert nothing_asked is not None
    assert nothing_asked.kept is None


def test_a_density_that_keeps_nothing_is_a_problem_with_the_smallest_one_there_is() -> None:
    found = looked(inspected.two_layers(), density=0.001)
    assert [problem.code for problem in found.problems] == ["spec_invalid"]
    assert "0.0715" in found.problems[0].message


def test_every_density_of_a_frontier_must_be_possible() -> None:
    bounds = {"*": [None, 0.5]}
    found = looked(inspected.two_layers(), frontier=[0.9, 0.1], layer_density=bounds)
    assert [problem.code for problem in found.problems] == ["spec_invalid"]
    assert looked(inspected.two_layers(), frontier=[0.4, 0.1], layer_density=bounds).problems == []


def test_a_target_must_go_with_what_the_model_is_measured_with() -> None:
    wrong = {"target": {"max_error_increase": 0.05}}
    found = looked(inspected.two_layers(), rows(), **wrong, preprocess={"scale": 1.0})
    assert [(problem.code, problem.param) for problem in found.problems] == [("spec_invalid", "target")]
    with pytest.raises(PruneError, match="give max_accuracy_drop"):
        prune(inspected.two_layers(), rows(), parse_spec({**wrong, "preprocess": {"scale": 1.0}}))
    right = {"target": {"max_accuracy_drop": 0.05}}
    assert looked(inspected.two_layers(), rows(), **right, preprocess={"scale": 1.0}).problems == []


def test_unsupported_operators_are_listed_and_the_rest_is_still_said() -> None:
    found = looked(inspected.with_a_stranger())
    assert not found.prunable
    assert [problem.code for problem in found.problems] == ["operator_unsupported"]
    stranger = found.operators[0]
    assert (stranger.name, stranger.domain, stranger.opset, stranger.count) == ("Mystery", "com.acme", 2, 2)
    assert not stranger.supported
    assert stranger.reason
    assert stranger.nodes == ("first stranger", "second stranger")
    assert all(operator.supported for operator in found.operators[1:])
    assert [weight.name for weight in found.weights] == ["w"]
    assert found.time.seconds is None
    assert found.time.how


def test_a_weight_that_several_nodes_use_is_said_to_be_shared() -> None:
    found = looked(inspected.shared_weight())
    assert found.weights[0].shared
    assert found.weights[0].nodes == ("one", "two", "three")
    assert any("'w' is shared by 3 nodes (one, two, three)" in warning for warning in found.warnings)


def test_folded_batch_norm_and_a_fixed_batch_are_warned_of() -> None:
    warnings = looked(inspected.folded_convolutions()).warnings
    assert any("3 convolutions and no BatchNormalization" in warning for warning in warnings)
    assert any("names a batch of 1 row;" in warning for warning in warnings)
    assert not any("convolutions" in warning for warning in looked(inspected.two_layers()).warnings)


def test_several_inputs_are_named_and_their_open_sizes_told() -> None:
    found = looked(inspected.two_inputs())
    assert found.prunable
    assert [weight.kind for weight in found.weights] == ["Embedding", "MatMul"]
    assert any("2 inputs" in warning and "'ids', 'mask'" in warning for warning in found.warnings)
    assert any("length of 'ids'" in warning for warning in found.warnings)
    assert found.step is not None


def test_weights_that_are_nan_are_refused_by_name() -> None:
    broken = values(6, 4)
    broken[0, :2] = np.nan, np.inf
    found = looked(inspected.two_layers(w1=broken))
    assert [problem.code for problem in found.problems] == ["model_not_finite"]
    assert "'w1' (2)" in found.problems[0].message


def test_a_model_without_weights_is_a_problem_and_no_accident() -> None:
    found = looked(inspected.without_weights())
    assert [problem.code for problem in found.problems] == ["no_prunable_weights"]
    assert (found.weights, found.density, found.memory) == ([], None, None)


def test_zeros_that_are_there_already_are_counted() -> None:
    half = values(6, 4)
    half[:3] = 0
    found = looked(inspected.two_layers(w1=half))
    assert found.weights[0].zeros == 12
    assert any("28.6 %" in warning and "zero already" in warning for warning in found.warnings)


def test_a_model_that_onnxruntime_refuses_is_a_problem_as_in_a_job() -> None:
    found = looked(inspected.double_convolution())
    assert [problem.code for problem in found.problems] == ["model_invalid"]
    assert "onnxruntime does not load the model" in found.problems[0].message


def test_half_precision_is_told() -> None:
    found = looked(inspected.half_precision())
    assert found.weights[0].dtype == "float16"
    assert any("'w', are in half precision" in warning for warning in found.warnings)
    assert not any("half precision" in warning for warning in looked(inspected.two_layers()).warnings)


class TestWithData:
    def test_data_that_fit_are_described_and_measured_with(self) -> None:
        found = looked(inspected.two_layers(), rows(), density=0.5)
        assert found.prunable, found.problems
        assert found.data is not None
        assert (found.data.kind, found.data.task, found.data.classes) == ("table", "classification", 3)
        assert (found.data.train_rows, found.data.holdout_rows) == (32, 8)
        assert found.time.seconds is not None
        assert found.time.steps == found.time.epochs * 2  # type: ignore[operator]
        assert found.memory is not None
        assert found.memory.data

    def test_inputs_that_the_data_do_not_give_are_named(self) -> None:
        found = looked(inspected.two_inputs(), {"ids": np.zeros((40, 7), np.int64), "y": np.arange(40) % 2})
        assert [problem.code for problem in found.problems] == ["data_shape_mismatch"]
        assert "nothing feeds 'mask'" in found.problems[0].message
        assert found.weights

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (rows(width=5), "data_shape_mismatch"),
            (rows(classes=7), "labels_out_of_range"),
            (rows(count=8), "data_too_few_samples"),
            ({"x": np.full((40, 4), np.nan, np.float32)}, "data_not_finite"),
        ],
    )
    def test_data_that_do_not_fit_are_a_problem(self, data: dict[str, np.ndarray], code: str) -> None:
        found = looked(inspected.two_layers(), data)
        assert [problem.code for problem in found.problems] == [code]
        assert found.data is None
        assert found.multiply_adds == 42, "the model is measured all the same"

    def test_data_that_cannot_be_read_are_a_problem(self, tmp_path: Any) -> None:
        (tmp_path / "data.npz").write_bytes(b"PK\x03\x04 cut off")
        found = looked(inspected.two_layers(), tmp_path / "data.npz")
        assert [problem.code for problem in found.problems] == ["data_invalid"]


class TestEstimates:
    def test_time_is_steps_times_a_step(self) -> None:
        time = looked(inspected.two_layers(), density=0.5).time
        assert time.seconds is not None
        assert time.steps is not None
        assert time.seconds_per_step is not None
        assert time.seconds == pytest.approx(time.steps * time.seconds_per_step, rel=0.3)
        assert "rough" in time.how
        assert "without data" in time.how

    def test_without_data_epochs_say_nothing_of_the_time(self) -> None:
        time = looked(inspected.two_layers(), density=0.5, epochs=3).time
        assert time.seconds is None
        assert "without data" in time.how

    def test_more_effort_takes_longer_and_max_minutes_bounds_it(self) -> None:
        quick = looked(inspected.two_layers(), effort="quick").time.steps
        thorough = looked(inspected.two_layers(), effort="thorough").time.steps
        assert quick is not None
        assert thorough is not None
        assert quick * 5 < thorough
        bounded = looked(inspected.two_layers(), max_minutes=1e-4).time.seconds
        assert bounded is not None
        assert bounded <= 0.006

    def test_a_job_for_a_gpu_is_not_timed_on_the_cpu(self) -> None:
        time = looked(inspected.two_layers(), device="cuda").time
        assert time.seconds is None
        assert "GPU" in time.how

    def test_memory_is_the_sum_of_its_parts(self) -> None:
        memory = looked(inspected.two_layers(), rows()).memory
        assert memory is not None
        parts = (
            memory.libraries,
            memory.weights,
            memory.gates,
            memory.activations,
            memory.graph,
            memory.data,
        )
        assert memory.bytes == sum(part or 0 for part in parts)


def test_a_spec_of_any_kind_is_taken_and_a_wrong_one_refused() -> None:
    outlook = inspect(inspected.two_layers(), None, PruneSpec(density=0.5)).density
    assert outlook is not None
    assert outlook.kept == 21
    with pytest.raises(PruneError) as refused:
        inspect(inspected.two_layers(), None, {"density": 3})
    assert refused.value.code == "spec_invalid"


def test_a_file_that_is_no_model_is_refused(tmp_path: Any) -> None:
    (tmp_path / "m.onnx").write_text("no model")
    with pytest.raises(PruneError) as refused:
        inspect(tmp_path / "m.onnx")
    assert refused.value.code == "model_format_unknown"
