"""LSTM, GRU and RNN against onnxruntime; batch-first layout, which it lacks, against the other layout."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from prune_engine.errors import ModelError
from prune_engine.formats.importer import compile_graph, import_onnx
from tests.prune_engine.formats.operators.one_node import (
    agree,
    by_onnxruntime,
    computed,
    gradient_agrees,
    model,
)

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
OUTPUTS = {"LSTM": 3, "GRU": 2, "RNN": 2}
HIDDEN = 5
WITH_BATCH = ("X", "initial_h", "initial_c")
KINDS = list(GATES)


def operands(
    kind: str,
    directions: int = 1,
    *,
    time: int = 4,
    bias: bool = True,
    lengths: list[int] | None = None,
    initial: bool = True,
) -> dict[str, np.ndarray | None]:
    random = np.random.default_rng(GATES[kind])

    def values(*shape: int) -> np.ndarray:
        return (0.5 * random.standard_normal(shape)).astype(np.float32)

    rows, batch, inputs = GATES[kind] * HIDDEN, 3, 2
    states = ["initial_h", "initial_c"] if kind == "LSTM" else ["initial_h"]
    return {
        "X": values(time, batch, inputs),
        "W": values(directions, rows, inputs),
        "R": values(directions, rows, HIDDEN),
        "B": values(directions, 2 * rows) if bias else None,
        "sequence_lens": None if lengths is None else np.array(lengths, np.int32),
        **{name: values(directions, batch, HIDDEN) if initial else None for name in states},
    }


def check(
    kind: str,
    inputs: dict[str, np.ndarray | None],
    outputs: Any = None,
    gradient: bool = True,
    **options: Any,
) -> None:
    proto = model(kind, inputs, outputs or OUTPUTS[kind], hidden_size=HIDDEN, **options)
    agree(proto, inputs, by_onnxruntime(proto, inputs))
    if gradient:
        gradient_agrees(proto, inputs)


@pytest.mark.parametrize("opset", [7, 14, 22])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", KINDS)
def test_directions(kind: str, direction: str, opset: int) -> None:
    inputs = operands(kind, 2 if direction == "bidirectional" else 1)
    check(kind, inputs, direction=direction, opset=opset)


@pytest.mark.parametrize("lengths", [None, [4, 2, 3], [3, 0, 1], [4, 4, 4]])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_different_lengths(kind: str, direction: str, lengths: list[int] | None) -> None:
    directions = 2 if direction == "bidirectional" else 1
    for initial, bias in ((True, True), (False, False)):
        inputs = operands(kind, directions, lengths=lengths, initial=initial, bias=bias)
        check(kind, inputs, direction=direction)


@pytest.mark.parametrize("outputs", [["y"], ["", "h"], ["y", "h"]])
@pytest.mark.parametrize("kind", KINDS)
def test_any_of_the_outputs(kind: str, outputs: list[str]) -> None:
    for lengths in (None, [1, 4, 2]):
        for before in (0, 1) if kind == "GRU" else (None,):
            options = {} if before is None else {"linear_before_reset": before}
            check(kind, operands(kind, 2, lengths=lengths), outputs, direction="bidirectional", **options)


def test_the_last_cell_state_alone() -> None:
    for lengths in (None, [1, 4, 2]):
        check("LSTM", operands("LSTM", lengths=lengths), ["", "", "c"])


NUMBERS = {
    "Affine": (0.7, 0.2),
    "LeakyRelu": (0.2, None),
    "ThresholdedRelu": (0.1, None),
    "ScaledTanh": (0.7, 0.6),
    "HardSigmoid": (0.3, 0.4),
    "Elu": (0.7, None),
}


@pytest.mark.parametrize(
    "function",
    ["Relu", "Tanh", "Sigmoid", "Softsign", "Softplus", "HardSigmoid", "LeakyRelu", "Elu", *NUMBERS],
)
@pytest.mark.parametrize("kind", KINDS)
def test_activations(kind: str, function: str) -> None:
    """The gradient is not measured: some of these have kinks, and functions without bound explode."""
    for place in range(len(DEFAULTS[kind])):
        names = list(DEFAULTS[kind])
        names[place] = function
        alpha, beta = NUMBERS.get(function, (None, None))
        numbers = {"activation_alpha": [alpha]} if alpha else {}
        numbers |= {"activation_beta": [beta]} if beta else {}
        check(kind, operands(kind), gradient=False, activations=names, **numbers)
        if function in ("HardSigmoid", "LeakyRelu", "Elu", "Affine"):  # their numbers left out
            check(kind, operands(kind), gradient=False, activations=names)


def test_alpha_and_beta_go_to_the_functions_that_take_them_in_order() -> None:
    names = ["Sigmoid", "LeakyRelu", "Elu", "HardSigmoid", "Affine", "Tanh"]
    check(
        "LSTM",
        operands("LSTM", 2),
        gradient=False,
        direction="bidirectional",
        activations=names,
        activation_alpha=[0.1, 0.2, 0.3, 0.4],
        activation_beta=[0.5, 0.6],
    )


@pytest.mark.parametrize("lengths", [None, [4, 2, 3]])
@pytest.mark.parametrize("kind", KINDS)
def test_clip(kind: str, lengths: list[int] | None) -> None:
    check(kind, operands(kind, lengths=lengths), gradient=False, clip=0.3)


def test_a_forget_gate_tied_to_the_input_gate() -> None:
    check("LSTM", operands("LSTM"), input_forget=1)
    check("LSTM", operands("LSTM", lengths=[4, 2, 3]), input_forget=1, clip=0.8, gradient=False)


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_a_gru_that_resets_after_the_product(directions: int, bias: bool) -> None:
    direction = "forward" if directions == 1 else "bidirectional"
    for lengths in (None, [4, 2, 3]):
        inputs = operands("GRU", directions, bias=bias, lengths=lengths)
        check("GRU", inputs, linear_before_reset=1, direction=direction)
    check("GRU", operands("GRU"), linear_before_reset=1, clip=0.4, gradient=False)


@pytest.mark.parametrize("kind", KINDS)
def test_the_batch_axis_first(kind: str) -> None:
    for lengths in (None, [4, 2, 3]):
        inputs = operands(kind, 2, lengths=lengths)
        options = {"hidden_size": HIDDEN, "direction": "bidirectional", "opset": 14}
        y, *states = by_onnxruntime(model(kind, inputs, OUTPUTS[kind], **options), inputs)
        turned = {
            name: np.ascontiguousarray(value.swapaxes(0, 1)) if name in WITH_BATCH else value
            for name, value in inputs.items()
        }
        wanted = [y.transpose(2, 0, 1, 3), *(state.swapaxes(0, 1) for state in states)]
        proto = model(kind, turned, OUTPUTS[kind], layout=1, **options)
        agree(proto, turned, wanted)
        gradient_agrees(proto, turned)


@pytest.mark.parametrize("kind", KINDS)
def test_no_time_steps_leave_the_state_as_it_was(kind: str) -> None:
    """onnxruntime returns memory that nobody wrote, so there is nothing to compare with."""
    inputs = operands(kind, time=0)
    proto = model(kind, inputs, OUTPUTS[kind], hidden_size=HIDDEN)
    y, *states = computed(compile_graph(proto), proto, inputs)
    assert tuple(y.shape) == (0, 1, 3, HIDDEN)
    for state, name in zip(states, ("initial_h", "initial_c"), strict=False):
        np.testing.assert_array_equal(state.numpy(), inputs[name])


def test_peepholes_are_refused_by_name() -> None:
    inputs = {**operands("LSTM"), "P": np.ones((1, 3 * HIDDEN), np.float32)}
    with pytest.raises(ModelError, match="peephole"):
        compile_graph(model("LSTM", inputs, 3, hidden_size=HIDDEN))


def test_peepholes_of_zero_do_nothing() -> None:
    inputs = {**operands("LSTM"), "P": np.zeros((1, 3 * HIDDEN), np.float32)}
    proto = model("LSTM", inputs, 3, hidden_size=HIDDEN, constants=["P"])
    agree(proto, inputs, by_onnxruntime(proto, inputs))


def test_an_unknown_activation_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="swish"):
        compile_graph(model("RNN", operands("RNN"), 2, hidden_size=HIDDEN, activations=["Swish"]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_are_prunable_and_the_bias_is_trained(kind: str) -> None:
    inputs = operands(kind, 2)
    proto = model(
        kind,
        inputs,
        OUTPUTS[kind],
        constants=["W", "R", "B"],
        hidden_size=HIDDEN,
        direction="bidirectional",
        **({"linear_before_reset": 1} if kind == "GRU" else {}),
    )
    module = import_onnx(proto)
    found = {weight.name: (weight.kind, weight.output_axis) for weight in module.prunable}
    assert found == {"W": (kind, 1), "R": (kind, 1)}
    assert set(module.weights) == {"W", "R", "B"}
    sum(out.sum() for out in computed(module, proto, inputs)).backward()
    for name, weight in module.weights.items():
        assert weight.grad is not None, name
        assert int((weight.grad != 0).sum()) == weight.numel(), name


@pytest.mark.parametrize("kind", KINDS)
def test_an_ordinary_layer_is_one_call_of_torchs_own(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No loop over time in Python, so that a step takes as long as that of the torch layer."""
    calls = []
    name = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn_tanh"}[kind]
    native = getattr(torch, name)
    monkeypatch.setattr(torch, name, lambda *a: calls.append(a) or native(*a))
    inputs = operands(kind, 2, initial=False)
    options = {"linear_before_reset": 1} if kind == "GRU" else {}
    proto = model(kind, inputs, hidden_size=HIDDEN, direction="bidirectional", **options)
    module = compile_graph(proto)
    calls.clear()  # the import walks the graph too
    computed(module, proto, inputs)
    assert len(calls) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_torch_compile_leaves_the_layer_as_it_is(kind: str) -> None:
    inputs = operands(kind, 2, initial=False)
    proto = model(kind, inputs, hidden_size=HIDDEN, direction="bidirectional")
    module = compile_graph(proto)
    expected = computed(module, proto, inputs)
    compiled = computed(torch.compile(module, backend="eager"), proto, inputs)
    for got, wanted in zip(compiled, expected, strict=True):
        assert torch.equal(got, wanted)


def test_torchs_compiler_is_imported_only_to_compile() -> None:
    """It is a second of the processor, and every start of an inspection or a job would pay it."""
    code = "import sys, prune_engine.api; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_a_constant_length_tensor_is_honoured() -> None:
    inputs = operands("LSTM", lengths=[4, 2, 3])
    proto = model("LSTM", inputs, ["y", "h"], hidden_size=HIDDEN, constants=["sequence_lens"])
    agree(proto, inputs, by_onnxruntime(proto, inputs))


class Recurrent(torch.nn.Module):
    """A layer of torch whose initial state the exporter makes, for the batch that it sees."""

    def __init__(self, layer: type[torch.nn.RNNBase], layers: int) -> None:
        super().__init__()
        self.layer = layer(2, HIDDEN, num_layers=layers, bidirectional=layers > 1, batch_first=True)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y, last = self.layer(x)
        return y.reshape(x.shape[0], -1), last[0] if isinstance(last, tuple) else last


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("layer", [torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN])
def test_a_layer_exported_for_one_batch_size_runs_at_another(
    layer: type[torch.nn.RNNBase], batch: int, layers: int
) -> None:
    torch.manual_seed(0)
    module, file = Recurrent(layer, layers).eval(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.zeros(batch, 4, 2),), file, dynamo=False, opset_version=17)
    imported = import_onnx(onnx.load_from_string(file.getvalue())).eval()
    x = torch.randn(5, 4, 2)
    for found, wanted in zip(imported(x), module(x), strict=True):
        torch.testing.assert_close(found, wanted)
