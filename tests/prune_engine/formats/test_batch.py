"""A batch size that the exporter wrote into the graph does not hold training to it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import Tensor

from prune_engine.formats import import_onnx
from tests.prune_engine.formats.graphs import model, values
from tests.prune_engine.formats.running import run

node = helper.make_node


def free(proto: onnx.ModelProto, rows: int) -> None:
    """The module gives for `rows` rows at once what onnxruntime gives for the file's batch at a time."""
    batch, *rest = (d.dim_value or 5 for d in proto.graph.input[0].type.tensor_type.shape.dim)
    module = import_onnx(proto)
    x = torch.randn(rows, *rest)
    pieces = [run(proto, piece)[0] for piece in torch.split(x, batch)]
    found = module(x)[0]
    np.testing.assert_allclose(found.detach().numpy(), np.concatenate(pieces), rtol=1e-4, atol=1e-5)
    found.square().sum().backward()
    for weight in module.prunable:
        assert module.weights[weight.name].grad is not None


def token(batch: int) -> list[onnx.NodeProto]:
    """A class token in front of every row, as a vision transformer has it."""
    return [
        node("Expand", ["token", "sizes"], ["t"]),
        node("Concat", ["t", "h"], ["y"], axis=1),
    ]


CASES: dict[str, tuple[int, list[onnx.NodeProto], dict[str, np.ndarray], tuple[int | str, ...]]] = {}
for _b in (1, 2):
    CASES |= {
        f"flatten {_b}": (
            _b,
            [node("Reshape", ["h", "s"], ["y"])],
            {"s": np.array([_b, -1])},
            (_b, 3, 4),
        ),
        f"heads {_b}": (
            _b,
            [
                node("Reshape", ["h", "s"], ["a"]),
                node("Transpose", ["a"], ["b"], perm=[0, 2, 1, 3]),
                node("Reshape", ["b", "t"], ["y"]),
            ],
            {"s": np.array([_b, 3, 2, 2]), "t": np.array([_b, 6, 2])},
            (_b, 3, 4),
        ),
        f"class token {_b}": (
            _b,
            token(_b),
            {"token": values(1, 1, 4), "sizes": np.array([_b, 1, 4])},
            (_b, 3, 4),
        ),
        f"folded class token {_b}": (
            _b,
            [node("Concat", ["token", "h"], ["y"], axis=1)],
            {"token": np.repeat(values(1, 1, 4), _b, axis=0)},
            (_b, 3, 4),
        ),
        f"mask {_b}": (
            _b,
            [node("Add", ["h", "mask"], ["y"])],
            {"mask": np.repeat(values(1, 3, 4), _b, axis=0)},
            (_b, 3, 4),
        ),
        f"expand {_b}": (
            _b,
            [node("ReduceMean", ["h"], ["m"], axes=[1]), node("Expand", ["m", "s"], ["y"])],
            {"s": np.array([_b, 7, 4])},
            (_b, 3, 4),
        ),
        f"slice {_b}": (
            _b,
            [node("Slice", ["h", "begin", "end", "axes"], ["a"]), node("Add", ["a", "h"], ["y"])],
            {"begin": np.array([0, 0]), "end": np.array([_b, 3]), "axes": np.array([0, 1])},
            (_b, 3, 4),
        ),
        f"zero states {_b}": (
            _b,
            [
                node("Transpose", ["h"], ["a"], perm=[1, 0, 2]),
                node("RNN", ["a", "u", "r", "", "", "h0"], ["", "l"], hidden_size=5),
                node("Squeeze", ["l", "first"], ["y"]),
            ],
            {
                "u": values(1, 5, 4),
                "r": values(1, 5, 5),
                "h0": np.zeros((1, _b, 5), np.float32),
                "first": np.array([0]),
            },
            (_b, 3, 4),
        ),
        f"open length {_b}": (
            _b,
            [node("Reshape", ["h", "s"], ["y"])],
            {"s": np.array([_b, -1, 2, 2])},
            (_b, "length", 4),
        ),
        f"computed target {_b}": (
            _b,
            [
                node("Shape", ["h"], ["all"]),
                node("Gather", ["all", "one"], ["l"]),
                node("Concat", ["b", "l", "rest"], ["s"], axis=0),
                node("Reshape", ["h", "s"], ["y"]),
            ],
            {"one": np.array([1]), "b": np.array([_b]), "rest": np.array([2, 2])},
            (_b, "length", 4),
        ),
    }


@pytest.mark.parametrize("case", CASES)
def test_what_the_exporter_wrote_down_is_opened(case: str) -> None:
    batch, nodes, constants, shape = CASES[case]
    proto = model([node("MatMul", ["x", "w"], ["h"]), *nodes], {"w": values(4, 4), **constants}, shape=shape)
    free(proto, batch)
    free(proto, batch * 3)
    free(proto, batch * 4)


@pytest.mark.parametrize("batch", [1, 2])
def test_sizes_of_a_resize_begin_with_the_batch_of_the_input(batch: int) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["h"]),
        node(
            "Resize",
            ["h", "", "", "sizes"],
            ["y"],
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        ),
    ]
    proto = model(
        nodes, {"w": values(3, 2, 1, 1), "sizes": np.array([batch, 3, 8, 8])}, shape=(batch, 2, 4, 4)
    )
    free(proto, batch * 3)


def test_rows_that_differ_are_not_repeated() -> None:
    """One row of the constant is for one row of the input: nobody can say what a fifth row would get."""
    proto = model(
        [node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", "each"], ["y"])],
        {"w": values(4, 4), "each": values(2, 3, 4)},
        shape=(2, 3, 4),
    )
    free(proto, 2)
    with pytest.raises(RuntimeError):
        import_onnx(proto)(torch.randn(6, 3, 4))


def test_an_input_without_a_batch_axis_stays_as_it_is() -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Reshape", ["h", "s"], ["a"]),
        node("MatMul", ["a", "table"], ["y"]),
    ]
    proto = model(nodes, {"w": values(4, 4), "s": np.array([1, 12])}, shape=(1, 3, 4))
    proto.graph.input.append(helper.make_tensor_value_info("table", 1, [12, 2]))
    module = import_onnx(proto)
    x, table = torch.randn(5, 3, 4), torch.randn(12, 2)
    pieces = [run(proto, row, table)[0] for row in torch.split(x, 1)]
    np.testing.assert_allclose(
        module(x, table)[0].detach().numpy(), np.concatenate(pieces), rtol=1e-4, atol=1e-5
    )


def test_what_depends_on_values_does_not_end_the_search() -> None:
    """NonZero has no shape without values; the Reshape next to it is opened all the same."""
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Reshape", ["h", "s"], ["flat"]),
        node("NonZero", ["x"], ["where"]),
        node("Shape", ["where"], ["count"]),
        node("Gather", ["count", "one"], ["n"]),
        node("Cast", ["n"], ["f"], to=1),
        node("Mul", ["f", "none"], ["zero"]),
        node("Add", ["flat", "zero"], ["y"]),
    ]
    constants = {"w": values(4, 4), "s": np.array([1, -1]), "one": np.array(1)}
    proto = model(nodes, constants | {"none": np.array(0, np.float32)}, shape=(1, 3, 4))
    free(proto, 4)


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the methods that read values from the device, as they are called."""
    called: list[str] = []
    for name in ("item", "tolist", "__bool__", "__int__", "__float__", "__index__"):
        original = getattr(Tensor, name)

        def counted(self: Tensor, *given: object, name: str = name, original: object = original) -> object:
            called.append(name)
            return original(self, *given)  # type: ignore[operator]

        monkeypatch.setattr(Tensor, name, counted)
    return called


@pytest.mark.parametrize("case", [case for case in CASES if case.endswith("1")])
def test_a_static_graph_is_never_waited_for(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, nodes, constants, shape = CASES[case]
    proto = model([node("MatMul", ["x", "w"], ["h"]), *nodes], {"w": values(4, 4), **constants}, shape=shape)
    module = import_onnx(proto)
    sizes: Sequence[int] = [3, *(size if isinstance(size, int) else 5 for size in shape[1:])]
    called = reads(monkeypatch)
    module(torch.randn(sizes))[0].sum().backward()
    assert called == []
