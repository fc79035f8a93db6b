"""ONNX files of a few hundred bytes that ask for what no machine has: memory, time, stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
HUGE = 10_000_000_000
LONGEST = 2**63 - 1


def numbers(name: str, *values: int) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def scalar(name: str, value: float, dtype: type = np.int64) -> TensorProto:
    return numpy_helper.from_array(np.array(value, dtype), name)


def model(
    nodes: Sequence[NodeProto],
    constants: Sequence[TensorProto] = (),
    output: str = "big",
    opset: int = 17,
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Sequence[str] = (),
    columns: int = 4,
) -> onnx.ModelProto:
    """An honest layer from `x` to `h`, and beside it the nodes, which may read `x` and `h`.

    What they make is the value `output`, the sum of which is added to the layer's output.
    """
    weight = numpy_helper.from_array(np.full((columns, 2), 0.1, np.float32), "w")
    honest = helper.make_node("MatMul", ["x", "w"], ["h"], name="honest")
    total = helper.make_node("ReduceSum", [output], ["total"], name="total", keepdims=0)
    last = helper.make_node("Add", ["h", "total"], ["y"], name="last")
    graph = helper.make_graph(
        [honest, *nodes, total, last],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["batch", columns])],
        [helper.make_tensor_value_info("y", FLOAT, ["batch", 2])],
        [weight, *constants],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9, functions=list(functions))


def constant_of_shape() -> onnx.ModelProto:
    return model([helper.make_node("ConstantOfShape", ["s"], ["big"])], [numbers("s", HUGE, 1000)])


def expand() -> onnx.ModelProto:
    return model(
        [helper.make_node("Expand", ["one", "s"], ["big"])],
        [numbers("s", HUGE, 1000), numpy_helper.from_array(np.ones((1, 1), np.float32), "one")],
    )


def expand_of_input() -> onnx.ModelProto:
    return model(
        [helper.make_node("Unsqueeze", ["x", "a"], ["u"]), helper.make_node("Expand", ["u", "s"], ["big"])],
        [numbers("s", 1, 1, HUGE, 1), numbers("a", 2)],
    )


def tile() -> onnx.ModelProto:
    return model([helper.make_node("Tile", ["x", "r"], ["big"])], [numbers("r", HUGE, 1000)])


def long_range() -> onnx.ModelProto:
    return model(
        [helper.make_node("Range", ["a", "b", "c"], ["r"]),
         helper.make_node("Cast", ["r"], ["big"], to=FLOAT)],
        [scalar("a", 0), scalar("b", 10**13), scalar("c", 1)],
    )  # fmt: skip


def long_float_range() -> onnx.ModelProto:
    return model(
        [helper.make_node("Range", ["a", "b", "c"], ["big"])],
        [scalar("a", 0, np.float32), scalar("b", 1e12, np.float32), scalar("c", 1e-3, np.float32)],
    )


def resize() -> onnx.ModelProto:
    return model(
        [helper.make_node("Reshape", ["x", "s"], ["i"]),
         helper.make_node("Resize", ["i", "", "", "sizes"], ["big"], mode="nearest")],
        [numbers("s", -1, 1, 2, 2), numbers("sizes", 1, 1, 10**7, 10**7)],
    )  # fmt: skip


def resize_by_scales() -> onnx.ModelProto:
    scales = numpy_helper.from_array(np.array([1, 1, 1e7, 1e7], np.float32), "scales")
    return model(
        [helper.make_node("Reshape", ["x", "s"], ["i"]),
         helper.make_node("Resize", ["i", "", "scales"], ["big"], mode="nearest")],
        [numbers("s", -1, 1, 2, 2), scales],
    )  # fmt: skip


def pad() -> onnx.ModelProto:
    return model([helper.make_node("Pad", ["x", "p"], ["big"])], [numbers("p", 0, 10**13, 0, 10**13)])


def one_hot() -> onnx.ModelProto:
    return model(
        [helper.make_node("Cast", ["x"], ["i"], to=INT64),
         helper.make_node("OneHot", ["i", "d", "v"], ["big"])],
        [scalar("d", 10**13), numpy_helper.from_array(np.array([0, 1], np.float32), "v")],
    )  # fmt: skip


def random_normal() -> onnx.ModelProto:
    return model([helper.make_node("RandomNormal", [], ["big"], shape=[HUGE, 1000])])


def random_uniform() -> onnx.ModelProto:
    return model([helper.make_node("RandomUniform", [], ["big"], shape=[HUGE, 1000])])


def window() -> onnx.ModelProto:
    return model([helper.make_node("HannWindow", ["n"], ["big"])], [scalar("n", 10**13)])


def doubling() -> onnx.ModelProto:
    """Concat of a value with itself, sixty times."""
    nodes = [helper.make_node("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], axis=1) for i in range(60)]
    nodes[0].input[:] = ["x", "x"]
    return model(nodes, output="c60")


def outer_products() -> onnx.ModelProto:
    """A row times a column, again and again: sizes are squared each time."""
    nodes = [helper.make_node("Reshape", ["x", "row"], ["r0"])]
    for i in range(5):
        nodes += [
            helper.make_node("Reshape", [f"r{i}", "row"], [f"a{i}"]),
            helper.make_node("Reshape", [f"r{i}", "column"], [f"b{i}"]),
            helper.make_node("MatMul", [f"b{i}", f"a{i}"], [f"r{i + 1}"]),
        ]
    return model(nodes, [numbers("row", 1, -1), numbers("column", -1, 1)], output="r5", columns=64)


def broadcast() -> onnx.ModelProto:
    """A column plus a row, both of a million zeros."""
    return model(
        [helper.make_node("ConstantOfShape", ["s"], ["z"]),
         helper.make_node("Unsqueeze", ["z", "one"], ["column"]),
         helper.make_node("Add", ["z", "column"], ["big"])],
        [numbers("s", 10_000_000), numbers("one", 1)],
    )  # fmt: skip


def gather() -> onnx.ModelProto:
    return model(
        [helper.make_node("ConstantOfShape", ["s"], ["i"], value=numbers("zero", 0)),
         helper.make_node("ConstantOfShape", ["t"], ["table"]),
         helper.make_node("Gather", ["table", "i"], ["big"])],
        [numbers("s", 10_000_000), numbers("t", 1, 10_000_000)],
    )  # fmt: skip


def wide_convolution() -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "k")
    return model(
        [helper.make_node("Reshape", ["x", "s"], ["i"]),
         helper.make_node("Conv", ["i", "k"], ["big"], pads=[10**6] * 4)],
        [numbers("s", -1, 1, 2, 2), weight],
    )  # fmt: skip


def wide_transposed_convolution() -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "k")
    return model(
        [helper.make_node("Reshape", ["x", "s"], ["i"]),
         helper.make_node("ConvTranspose", ["i", "k"], ["big"], strides=[10**7, 10**7])],
        [numbers("s", -1, 1, 2, 2), weight],
    )  # fmt: skip


def many_large_ones() -> onnx.ModelProto:
    """Each fits; all of them together do not."""
    nodes = [helper.make_node("ConstantOfShape", [f"s{i}"], [f"z{i}"]) for i in range(2000)]
    constants = [numbers(f"s{i}", 100_000_000 + i) for i in range(2000)]
    sums = [helper.make_node("ReduceSum", [f"z{i}"], [f"t{i}"], keepdims=1) for i in range(2000)]
    return model(
        [*nodes, *sums, helper.make_node("Concat", [f"t{i}" for i in range(2000)], ["big"], axis=0)],
        constants,
    )


def body(*nodes: NodeProto, outputs: Sequence[str], condition: str = "c") -> GraphProto:
    return helper.make_graph(
        list(nodes),
        "body",
        [helper.make_tensor_value_info("i", INT64, []), helper.make_tensor_value_info("c", BOOL, []),
         helper.make_tensor_value_info("v", FLOAT, None)],
        [helper.make_tensor_value_info(condition, BOOL, []),
         *(helper.make_tensor_value_info(name, FLOAT, None) for name in outputs)],
    )  # fmt: skip


def endless_loop() -> onnx.ModelProto:
    inner = body(helper.make_node("Add", ["v", "v"], ["v2"]), helper.make_node("Identity", ["c"], ["c2"]),
                 outputs=["v2"], condition="c2")  # fmt: skip
    return model(
        [helper.make_node("Loop", ["m", "go", "x"], ["big"], body=inner)],
        [scalar("m", LONGEST), scalar("go", True, np.bool_)],
    )


def endless_loop_without_a_count() -> onnx.ModelProto:
    inner = body(helper.make_node("Add", ["v", "v"], ["v2"]), helper.make_node("Identity", ["c"], ["c2"]),
                 outputs=["v2"], condition="c2")  # fmt: skip
    return model(
        [helper.make_node("Loop", ["", "go", "x"], ["big"], body=inner)], [scalar("go", True, np.bool_)]
    )


def nested_loops() -> onnx.ModelProto:
    def layer(depth: int) -> GraphProto:
        inner = helper.make_node("Neg", ["v"], ["v2"])
        if depth:
            inner = helper.make_node("Loop", ["m", "go", "v"], ["v2"], body=layer(depth - 1))
        goes_on = helper.make_node("Identity", ["go"], [f"go{depth}"])
        return helper.make_graph(
            [inner, goes_on],
            f"b{depth}",
            [helper.make_tensor_value_info(f"i{depth}", INT64, []),
             helper.make_tensor_value_info(f"c{depth}", BOOL, []),
             helper.make_tensor_value_info("v", FLOAT, None)],
            [helper.make_tensor_value_info(f"go{depth}", BOOL, []),
             helper.make_tensor_value_info("v2", FLOAT, None)],
        )  # fmt: skip

    return model(
        [helper.make_node("Loop", ["m", "go", "x"], ["big"], body=layer(6))],
        [scalar("m", 1000), scalar("go", True, np.bool_)],
    )


def collecting_loop() -> onnx.ModelProto:
    """What every round leaves behind is stacked: a few megabytes a million times."""
    inner = body(
        helper.make_node("Identity", ["v"], ["v2"]), helper.make_node("Identity", ["c"], ["c2"]),
        helper.make_node("ConstantOfShape", ["s"], ["scan"]), outputs=["v2", "scan"], condition="c2",
    )  # fmt: skip
    return model(
        [helper.make_node("Loop", ["m", "go", "x"], ["last_v", "big"], body=inner)],
        [scalar("m", 1_000_000), scalar("go", True, np.bool_), numbers("s", 1_000_000)],
    )


def _function(name: str, nodes: Sequence[NodeProto]) -> onnx.FunctionProto:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    return helper.make_function("f", name, ["a"], ["b"], list(nodes), imports)


def function_bomb() -> onnx.ModelProto:
    """Each of sixty functions calls the next one twice."""
    functions = [
        _function(f"f{i}", [helper.make_node(f"f{i + 1}", ["a"], ["m"], domain="f"),
                            helper.make_node(f"f{i + 1}", ["m"], ["b"], domain="f")])
        for i in range(60)
    ]  # fmt: skip
    functions.append(_function("f60", [helper.make_node("Neg", ["a"], ["b"])]))
    return model([helper.make_node("f0", ["x"], ["big"], domain="f")], functions=functions, domains=["f"])


def empty_function_bomb() -> onnx.ModelProto:
    """The same, but the last one does nothing at all: there is not a single node to count."""
    proto = function_bomb()
    last = proto.functions[-1]
    del last.node[:]
    last.output[:] = ["a"]
    return proto


def deep_functions() -> onnx.ModelProto:
    functions = [
        _function(f"f{i}", [helper.make_node(f"f{i + 1}", ["a"], ["b"], domain="f")]) for i in range(5000)
    ]
    functions.append(_function("f5000", [helper.make_node("Neg", ["a"], ["b"])]))
    return model([helper.make_node("f0", ["x"], ["big"], domain="f")], functions=functions, domains=["f"])


def deep_branches(depth: int = 28) -> onnx.ModelProto:
    """If inside If, as deep as protobuf reads."""

    def branch(level: int) -> GraphProto:
        nodes = [helper.make_node("Neg", ["x"], [f"n{level}"])]
        if level < depth:
            inner = branch(level + 1)
            nodes = [helper.make_node("If", ["go"], [f"n{level}"], then_branch=inner, else_branch=inner)]
            if level > 1:
                nodes[0].attribute[1].g.CopyFrom(helper.make_graph(
                    [helper.make_node("Neg", ["x"], [f"e{level}"])], "e", [],
                    [helper.make_tensor_value_info(f"e{level}", FLOAT, None)]))  # fmt: skip
        return helper.make_graph(
            nodes, f"b{level}", [], [helper.make_tensor_value_info(f"n{level}", FLOAT, None)]
        )

    top = branch(1)
    return model(
        [helper.make_node("If", ["go"], ["big"], then_branch=top, else_branch=top)],
        [scalar("go", True, np.bool_)],
    )


def branching_functions() -> onnx.ModelProto:
    """Functions that call the next one in both branches of an If."""
    functions = []
    for i in range(40):

        def side(name: str, i: int = i) -> GraphProto:
            return helper.make_graph(
                [helper.make_node(f"f{i + 1}", ["a"], [name], domain="f")], name, [],
                [helper.make_tensor_value_info(name, FLOAT, None)],
            )  # fmt: skip

        nodes = [
            helper.make_node("ReduceSum", ["a"], ["s"], keepdims=0),
            helper.make_node("Cast", ["s"], ["q"], to=BOOL),
            helper.make_node("If", ["q"], ["b"], then_branch=side("t"), else_branch=side("e")),
        ]
        functions.append(_function(f"f{i}", nodes))
    functions.append(_function("f40", [helper.make_node("Neg", ["a"], ["b"])]))
    return model([helper.make_node("f0", ["x"], ["big"], domain="f")], functions=functions, domains=["f"])


def long_name() -> onnx.ModelProto:
    name = "n" * 5_000_000
    return model([helper.make_node("Neg", ["x"], [name], name=name)], output=name)


def many_attributes() -> onnx.ModelProto:
    node = helper.make_node("Neg", ["x"], ["big"])
    for i in range(3_000):
        node.attribute.add(name=f"a{i}", type=onnx.AttributeProto.INT, i=1)
    return model([node])


def huge_input() -> onnx.ModelProto:
    proto = model([helper.make_node("Neg", ["x"], ["big"])])
    proto.graph.input.append(helper.make_tensor_value_info("z", FLOAT, ["batch", 10**7, 10**7]))
    proto.graph.node.insert(0, helper.make_node("ReduceSum", ["z"], ["zs"], keepdims=0))
    proto.graph.node[-1].input[0] = "zs"
    return proto


def many_dimensions() -> onnx.ModelProto:
    proto = model([helper.make_node("Neg", ["x"], ["big"])])
    proto.graph.input[0].type.tensor_type.shape.dim.extend(
        [onnx.TensorShapeProto.Dimension(dim_value=1)] * 100_000
    )
    return proto


MEMORY: tuple[Callable[[], onnx.ModelProto], ...] = (
    constant_of_shape, expand, expand_of_input, tile, long_range, long_float_range, resize, resize_by_scales,
    pad, one_hot, random_normal, random_uniform, window, doubling, outer_products, broadcast, gather,
    wide_convolution, wide_transposed_convolution, many_large_ones, collecting_loop, huge_input,
)  # fmt: skip
STEPS: tuple[Callable[[], onnx.ModelProto], ...] = (
    endless_loop, endless_loop_without_a_count, nested_loops,
)  # fmt: skip
NESTING: tuple[Callable[[], onnx.ModelProto], ...] = (
    function_bomb, empty_function_bomb, deep_functions, branching_functions, deep_branches, long_name,
    many_attributes, many_dimensions,
)  # fmt: skip
