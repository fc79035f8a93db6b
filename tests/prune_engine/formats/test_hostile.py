"""Small files that ask for what no machine has are refused before anything is made from them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper

from prune_engine.errors import ExternalDataError, ModelError, ModelTooLargeError
from prune_engine.formats import message, read_model
from prune_engine.formats.extents import check_extents, known_extents
from prune_engine.formats.onnx_file import parse_onnx
from prune_engine.formats.reading import read_graph
from tests.prune_engine.formats import hostile
from tests.prune_engine.formats.zoo import NETS, build, export, inputs

GIB = 2**30
DECIDED = [make for make in hostile.MEMORY if make is not hostile.outer_products]
Make = Callable[[], onnx.ModelProto]


def test_the_smallest_of_them_is_refused_in_milliseconds(tmp_path: Path) -> None:
    """40 TB of zeros, asked for in 110 bytes or so, with which onnx's checker has no quarrel."""
    graph = helper.make_graph(
        [helper.make_node("ConstantOfShape", ["s"], ["y"])],
        "g",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
        [hostile.numbers("s", 10**13)],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    proto.producer_name = ""
    onnx.checker.check_model(proto)
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    assert path.stat().st_size < 120
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        with pytest.raises(ModelTooLargeError, match=r"'y' asks for .* at least 40,000,000,000,000 bytes"):
            read_model(path)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.1


@pytest.mark.parametrize("make", DECIDED, ids=lambda make: make.__name__)
def test_memory_that_nobody_has_is_refused(make: Make) -> None:
    graph = read_graph(make())
    with pytest.raises(ModelTooLargeError, match=r"[\d,]+ bytes"):
        check_extents(graph, memory=8 * GIB)


@pytest.mark.parametrize("make", [*hostile.STEPS, *hostile.NESTING], ids=lambda make: make.__name__)
def test_loops_without_end_and_nests_without_bottom_are_refused(make: Make) -> None:
    with pytest.raises(ModelTooLargeError):
        parse_onnx(make().SerializeToString())


@pytest.mark.parametrize(
    ("name", "exporter"),
    [*((name, "legacy") for name in NETS), ("mobilenet_v3", "dynamo"), ("vit", "dynamo")],
)
def test_no_value_is_taken_for_larger_than_it_is(name: str, exporter: str) -> None:
    """For every value of what people export: as onnxruntime has it for one row."""
    proto = export(build(name), inputs(name, 2), "legacy", 17)
    graph = read_graph(proto)
    check_extents(graph, memory=GIB)
    found = known_extents(graph)
    wanted = [name for node in proto.graph.node for name in node.output if name in found]
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    given = session.get_inputs()[0]
    results = session.run(None, {given.name: inputs(name, 1).numpy()})
    assert len(wanted) > 3
    for value, result in zip(wanted, results, strict=True):
        said = found[value]
        assert len(said) == result.ndim, value
        assert all(size is None or size == real for size, real in zip(said, result.shape, strict=True)), value


def test_a_loop_whose_end_is_computed_is_no_loop_without_end() -> None:
    proto = hostile.endless_loop()
    body = next(a.g for node in proto.graph.node for a in node.attribute if a.name == "body")
    body.node[1].CopyFrom(helper.make_node("Less", ["i", "ten"], ["c2"]))
    body.initializer.append(hostile.scalar("ten", 10))
    check_extents(read_graph(proto), memory=GIB)


def wire(field: int, payload: bytes) -> bytes:
    length, said = len(payload), b""
    while True:
        said += bytes([length & 0x7F | (0x80 if length > 0x7F else 0)])
        length >>= 7
        if not length:
            return bytes([field << 3 | 2]) + said + payload


def test_objects_are_counted_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node takes two bytes of the file and a hundred of memory."""
    assert message.MOST_FIELDS <= 4_000_000
    monkeypatch.setattr(message, "MOST_FIELDS", 50_000)
    nodes = b"\x0a\x00" * 50_001
    with pytest.raises(ModelTooLargeError, match="fields"):
        parse_onnx(b"\x08\x08" + wire(7, nodes))
    attributes = b"\x2a\x00" * 50_001
    with pytest.raises(ModelTooLargeError, match="fields"):
        parse_onnx(b"\x08\x08" + wire(7, wire(1, attributes)))
    message.check_message(b"\x08\x08" + wire(7, wire(5, wire(9, bytes(500_000)))))  # values are no objects


def test_messages_are_nested_no_deeper_than_the_parser_goes() -> None:
    inner = b""
    for _ in range(400):
        inner = wire(1, wire(5, wire(6, inner)))  # a graph's node's attribute's graph
    with pytest.raises(ModelTooLargeError, match="levels deep"):
        parse_onnx(b"\x08\x08" + wire(7, inner))


def _external() -> TensorProto:
    tensor = helper.make_tensor("secret", TensorProto.FLOAT, [2], [0.0, 0.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def _nest(tensor: TensorProto) -> GraphProto:
    return helper.make_graph([], "inner", [], [], [tensor])


def _in_initializer(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(_external())


def _in_sparse(proto: onnx.ModelProto) -> None:
    sparse = proto.graph.sparse_initializer.add(dims=[4])
    sparse.values.CopyFrom(_external())
    sparse.indices.CopyFrom(helper.make_tensor("i", TensorProto.INT64, [2], [0, 1]))


def _in_constant(proto: onnx.ModelProto) -> None:
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=_external()))


def _in_subgraph(proto: onnx.ModelProto) -> None:
    proto.graph.node.insert(0, NodeProto(op_type="If", input=["x"], output=["c"], attribute=[
        AttributeProto(name="then_branch", type=AttributeProto.GRAPH, g=_nest(_external()))]))  # fmt: skip


def _in_graphs(proto: onnx.ModelProto) -> None:
    proto.graph.node.insert(0, NodeProto(op_type="If", input=["x"], output=["c"], attribute=[
        AttributeProto(name="many", type=AttributeProto.GRAPHS, graphs=[_nest(_external())])]))  # fmt: skip


def _in_function(proto: onnx.ModelProto) -> None:
    proto.functions.add(
        name="f", domain="f", node=[helper.make_node("Constant", [], ["c"], value=_external())]
    )


def _in_default_of_a_function(proto: onnx.ModelProto) -> None:
    default = AttributeProto(name="t", type=AttributeProto.TENSOR, t=_external())
    proto.functions.add(name="f", domain="f", attribute_proto=[default])


def _in_training_info(proto: onnx.ModelProto) -> None:
    proto.training_info.add().initialization.CopyFrom(_nest(_external()))


@pytest.mark.parametrize(
    "put",
    [_in_initializer, _in_sparse, _in_constant, _in_subgraph, _in_graphs, _in_function,
     _in_default_of_a_function, _in_training_info],
    ids=lambda put: put.__name__.strip("_"),
)  # fmt: skip
def test_no_tensor_anywhere_may_name_a_file(put: Callable[[onnx.ModelProto], None]) -> None:
    """onnxruntime reads external files relative to its own folder, even where the model came as bytes."""
    proto = hostile.model([helper.make_node("Neg", ["x"], ["big"])])
    put(proto)
    with pytest.raises(ExternalDataError, match="another file"):
        parse_onnx(proto.SerializeToString())


def test_a_sparse_tensor_is_not_made_dense_where_that_takes_gigabytes() -> None:
    proto = hostile.model([helper.make_node("Neg", ["s"], ["big"])])
    sparse = proto.graph.sparse_initializer.add(dims=[10**9])
    sparse.values.CopyFrom(helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0]))
    sparse.indices.CopyFrom(helper.make_tensor("i", TensorProto.INT64, [1], [0]))
    with pytest.raises(ModelError, match="elements"):
        parse_onnx(proto.SerializeToString())


def test_lists_of_numbers_that_grow_are_not_followed() -> None:
    """A shape of 2**60 dimensions, made by joining a list with itself."""
    nodes = [helper.make_node("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], axis=0) for i in range(30)]
    proto = hostile.model([*nodes, helper.make_node("Cast", ["c30"], ["big"], to=TensorProto.FLOAT)],
                          [hostile.numbers("c0", 1)])  # fmt: skip
    began = time.perf_counter()
    with pytest.raises(ModelTooLargeError):
        check_extents(read_graph(proto), memory=GIB)
    assert time.perf_counter() - began < 10
    assert np.prod(known_extents(read_graph(proto))["c30"]) == 2**30
