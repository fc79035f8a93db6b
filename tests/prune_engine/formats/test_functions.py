"""Local functions are unfolded wherever they are called."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from prune_engine.errors import ModelError
from prune_engine.formats import import_onnx, read_graph, write_back
from tests.prune_engine.formats.graphs import model, values
from tests.prune_engine.formats.running import distance, run

node = helper.make_node


def function(
    name: str,
    inputs: list[str],
    outputs: list[str],
    nodes: list[onnx.NodeProto],
    attributes: list[str] | None = None,
    *,
    opset: int = 17,
    **options: Any,
) -> onnx.FunctionProto:
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
    return helper.make_function("own", name, inputs, outputs, nodes, imports, attributes or [], **options)


def calling(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], functions: list[onnx.FunctionProto]
) -> onnx.ModelProto:
    proto = model(nodes, constants, functions=functions)
    proto.opset_import.append(helper.make_opsetid("own", 1))
    return proto


def referring(proto: onnx.NodeProto, **attributes: tuple[str, int]) -> onnx.NodeProto:
    """The node with attributes that are those of the function, as name and type."""
    for name, (ref, kind) in attributes.items():
        proto.attribute.add(name=name, ref_attr_name=ref, type=kind)
    return proto


DENSE = function(
    "Dense",
    ["a", "w", "b"],
    ["c"],
    [
        referring(node("Gemm", ["a", "w", "b"], ["h"]), transB=("flip", onnx.AttributeProto.INT)),
        referring(node("LeakyRelu", ["h"], ["c"]), alpha=("slope", onnx.AttributeProto.FLOAT)),
    ],
    ["flip"],
    attribute_protos=[helper.make_attribute("slope", 0.25)],
)


def agrees(proto: onnx.ModelProto) -> set[str]:
    module = import_onnx(proto)
    x = torch.randn(5, 4)
    assert distance(module(x), run(proto, x)) < 1e-5
    assert write_back(proto, module.state_values()) == proto
    return {weight.name for weight in module.prunable}


def test_attributes_come_from_the_call_or_from_the_defaults() -> None:
    nodes = [
        node("Dense", ["x", "w"], ["h"], domain="own", name="first", flip=1),
        node("Dense", ["h", "u", "b"], ["y"], domain="own", name="second", slope=0.5),
    ]
    constants = {"w": values(3, 4), "u": values(3, 2), "b": values(2)}
    assert agrees(calling(nodes, constants, [DENSE])) == {"w", "u"}


def test_functions_call_functions_and_the_same_names_inside_do_not_meet() -> None:
    twice = function(
        "Twice",
        ["a", "w"],
        ["c"],
        [
            node("Dense", ["a", "w"], ["h"], domain="own", name="one"),
            node("Dense", ["h", "w"], ["c"], domain="own", name="two"),
        ],
    )
    nodes = [
        node("Twice", ["x", "w"], ["h"], domain="own", name="first"),
        node("Twice", ["h", "w"], ["y"], domain="own", name="second"),
    ]
    proto = calling(nodes, {"w": values(4, 4)}, [twice, DENSE])
    assert agrees(proto) == {"w"}
    names = [n.name for n in read_graph(proto).nodes]
    assert names[0] == "first/one/h"
    assert len(set(names)) == 8


def test_a_function_may_be_of_another_opset_than_the_model() -> None:
    """Squeeze took its axes as an attribute before opset 13, ReduceSum too."""
    old = function(
        "Sum",
        ["a"],
        ["c"],
        [
            node("ReduceSum", ["a"], ["s"], axes=[1], keepdims=1),
            node("Squeeze", ["s"], ["t"], axes=[1]),
            node("Unsqueeze", ["t"], ["u"], axes=[1]),
            node("Add", ["a", "u"], ["c"]),
        ],
        opset=11,
    )
    nodes = [node("Sum", ["x"], ["h"], domain="own"), node("MatMul", ["h", "w"], ["y"])]
    module = import_onnx(calling(nodes, {"w": values(4, 3)}, [old]))
    x = torch.randn(5, 4)
    expected = (x + x.sum(1, keepdim=True)) @ module.weights["w"]
    assert torch.allclose(module(x)[0], expected, atol=1e-5)


def test_a_function_with_a_body_inside_and_an_output_that_is_its_input() -> None:
    def branch(operator: str) -> onnx.GraphProto:
        output = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
        return helper.make_graph([node(operator, ["a"], ["r"])], "branch", [], [output])

    either = function(
        "Either",
        ["a", "which"],
        ["c"],
        [node("If", ["which"], ["c"], then_branch=branch("Relu"), else_branch=branch("Neg"))],
    )
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("ReduceSum", ["h"], ["s"], keepdims=0),
        node("Cast", ["s"], ["which"], to=TensorProto.BOOL),
        node("Either", ["h", "which"], ["p"], domain="own", name="one"),
        node("Either", ["p", "which"], ["y"], domain="own", name="two"),
    ]
    assert agrees(calling(nodes, {"w": values(4, 3)}, [either])) == {"w"}


def test_constants_inside_functions_compute_and_are_no_weights() -> None:
    tensor = numpy_helper.from_array(values(4, 4), "t")
    own = function(
        "Mix", ["a"], ["c"], [node("Constant", [], ["m"], value=tensor), node("MatMul", ["a", "m"], ["c"])]
    )
    nodes = [node("Mix", ["x"], ["h"], domain="own"), node("MatMul", ["h", "w"], ["y"])]
    assert agrees(calling(nodes, {"w": values(4, 3)}, [own])) == {"w"}


def test_a_function_that_calls_itself_is_refused() -> None:
    endless = function("Endless", ["a"], ["c"], [node("Endless", ["a"], ["c"], domain="own")])
    nodes = [node("Endless", ["x"], ["h"], domain="own"), node("MatMul", ["h", "w"], ["y"])]
    with pytest.raises(ModelError, match="'Endless' calls itself"):
        import_onnx(calling(nodes, {"w": values(4, 3)}, [endless]))


def test_functions_that_unfold_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prune_engine.formats.reading._MOST_NODES", 1000)
    functions = [function("F0", ["a"], ["c"], [node("Relu", ["a"], ["c"])])]
    for i in range(12):
        calls = [
            node(f"F{i}", ["a"], ["b"], domain="own", name="one"),
            node(f"F{i}", ["b"], ["c"], domain="own", name="two"),
        ]
        functions.append(function(f"F{i + 1}", ["a"], ["c"], calls))
    nodes = [node("F12", ["x"], ["h"], domain="own"), node("MatMul", ["h", "w"], ["y"])]
    with pytest.raises(ModelError, match="more than 1000 nodes"):
        import_onnx(calling(nodes, {"w": values(4, 3)}, functions))


def test_a_call_that_asks_for_more_results_than_the_function_has_is_refused() -> None:
    own = function("Own", ["a"], ["c"], [node("Relu", ["a"], ["c"])])
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Own", ["h"], ["r", "y"], domain="own")]
    with pytest.raises(ModelError, match="Nothing computes the graph output 'y'"):
        import_onnx(calling(nodes, {"w": values(4, 3)}, [own]))
