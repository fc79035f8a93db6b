"""Values go back, and nothing else changes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from prune_engine.formats import import_onnx, structural_differences, write_back
from prune_engine.formats.tensors import set_values, to_numpy
from tests.prune_engine.formats.graphs import linear, model, values

DTYPES = {np.float32: TensorProto.FLOAT, np.float16: TensorProto.FLOAT16, np.float64: TensorProto.DOUBLE}


@st.composite
def graphs(draw: st.DrawFn) -> onnx.ModelProto:
    """Chains of layers with weights stored and reached in the ways that exporters have."""
    dtype = draw(st.sampled_from(list(DTYPES)))
    nodes, initializers, width, current = [], {}, 4, "x"
    depth = draw(st.integers(1, 4))
    for i in range(depth):
        kind = draw(st.sampled_from(["gemm", "gemm_t", "matmul", "transpose", "constant", "relu", "norm"]))
        last, out = current, "y" if i == depth - 1 else f"h{i}"
        size, seed = draw(st.integers(1, 5)), draw(st.integers(0, 99))
        if i == 0 and kind in ("relu", "norm"):
            kind = "gemm"
        name = f"layer.{i}.weight"
        if kind in ("gemm", "gemm_t"):
            initializers[name] = values(
                *((size, width) if kind == "gemm_t" else (width, size)), seed=seed, dtype=dtype
            )
            initializers[f"layer.{i}.bias"] = values(size, seed=seed + 1, dtype=dtype)
            nodes.append(
                helper.make_node("Gemm", [last, name, f"layer.{i}.bias"], [out], transB=int(kind == "gemm_t"))
            )
            width = size
        elif kind == "matmul":
            initializers[name] = values(width, size, seed=seed, dtype=dtype)
            nodes.append(helper.make_node("MatMul", [last, name], [out]))
            width = size
        elif kind == "transpose":
            initializers[name] = values(size, width, seed=seed, dtype=dtype)
            nodes.append(helper.make_node("Transpose", [name], [f"t{i}"], perm=[1, 0]))
            nodes.append(helper.make_node("MatMul", [last, f"t{i}"], [out]))
            width = size
        elif kind == "constant":
            tensor = numpy_helper.from_array(values(width, size, seed=seed, dtype=dtype), "value")
            nodes.append(helper.make_node("Constant", [], [f"c{i}"], value=tensor))
            nodes.append(helper.make_node("MatMul", [last, f"c{i}"], [out]))
            width = size
        elif kind == "relu":
            nodes.append(helper.make_node("Relu", [last], [out]))
        else:
            for part in ("scale", "shift", "mean", "var"):
                initializers[f"{i}.{part}"] = np.abs(values(width, seed=seed + len(part), dtype=dtype))
            nodes.append(
                helper.make_node(
                    "BatchNormalization",
                    [last, *(f"{i}.{p}" for p in ("scale", "shift", "mean", "var"))],
                    [out],
                )
            )
        current = out
    proto = model(
        nodes, initializers, element_type=DTYPES[dtype], opset=draw(st.integers(9, 21)), doc_string="made"
    )
    proto.metadata_props.append(onnx.StringStringEntryProto(key="k", value="v"))
    if draw(st.booleans()) and dtype == np.float32:  # the typed storage form
        for tensor in proto.graph.initializer:
            stored = numpy_helper.to_array(tensor).reshape(-1).tolist()
            tensor.ClearField("raw_data")
            tensor.float_data.extend(stored)
    return proto


@settings(max_examples=80, deadline=None)
@given(graphs())
def test_untouched_values_leave_the_file_bit_for_bit_as_it_was(proto: onnx.ModelProto) -> None:
    before = proto.SerializeToString(deterministic=True)
    module = import_onnx(proto)
    written = write_back(proto, module.state_values())
    assert written.SerializeToString(deterministic=True) == before
    assert proto.SerializeToString(deterministic=True) == before


@settings(max_examples=40, deadline=None)
@given(graphs(), st.integers(0, 2**31))
def test_new_values_are_read_back_as_they_were_given_and_nothing_else_differs(
    proto: onnx.ModelProto, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    given_values = {
        n: generator.standard_normal(v.shape).astype(v.dtype)
        for n, v in import_onnx(proto).state_values().items()
    }
    written = write_back(proto, given_values)
    found = import_onnx(written).state_values()
    assert found.keys() == given_values.keys()
    assert all((found[name] == value).all() for name, value in given_values.items())
    assert structural_differences(proto, written) == []


@pytest.mark.parametrize(
    "values_by_name",
    [
        {"nobody": values(4, 3)},
        {"w": values(3, 4)},
        {"w": values(4, 3, dtype=np.float64)},
        {"h": values(4, 3)},
    ],
)
def test_values_that_do_not_fit_are_refused(values_by_name: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match=r"nobody|float|'h'"):
        write_back(linear(), values_by_name)


def test_bfloat16_in_its_typed_form_goes_back_in_that_form() -> None:
    proto = linear()
    tensor = helper.make_tensor("w", TensorProto.BFLOAT16, [4, 3], [0.5] * 12)
    proto.graph.initializer[0].CopyFrom(tensor)
    current = numpy_helper.to_array(tensor).copy()
    current[0, 0] = 0.0
    written = write_back(proto, {"w": current}).graph.initializer[0]
    assert numpy_helper.to_array(written)[0, 0] == 0
    assert written.HasField("raw_data") == tensor.HasField("raw_data")


PROPERTIES = {"prunery.density": "0.05", "prunery.version": "1.0", "prunery.job": "job_1"}


def test_the_file_says_how_it_was_pruned_and_nothing_else_of_its_metadata_changes() -> None:
    proto = linear()
    helper.set_model_props(proto, {"author": "me", "prunery.density": "0.5"})
    written = write_back(proto, {}, PROPERTIES)
    assert {entry.key: entry.value for entry in written.metadata_props} == {"author": "me", **PROPERTIES}
    assert structural_differences(proto, written) == []
    assert write_back(written, {}, PROPERTIES) == written
    written.metadata_props[0].value = "you"
    assert structural_differences(proto, written) == ["metadata_props 0 differs"]


def test_other_properties_are_refused() -> None:
    with pytest.raises(ValueError, match="author"):
        write_back(linear(), {}, {"author": "me"})


def test_structural_changes_inside_bodies_are_told() -> None:
    def branch(name: str) -> onnx.GraphProto:
        output = helper.make_tensor_value_info("r", TensorProto.FLOAT, ["n", 3])
        stored = numpy_helper.from_array(values(4, 3), "w")
        return helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["r"], name)], name, [], [output], [stored]
        )

    node = helper.make_node("If", ["c"], ["y"], "if", then_branch=branch("yes"), else_branch=branch("no"))
    base = model([node], {"c": np.array(True)})

    def changed(edit: str) -> list[str]:
        other = onnx.ModelProto()
        other.CopyFrom(base)
        attributes = other.graph.node[0].attribute
        exec(edit, {"n": other.graph.node[0], "g": next(a.g for a in attributes if a.name == "then_branch")})
        return structural_differences(base, other)

    assert changed("pass") == []
    assert changed("g.initializer[0].raw_data = bytes(48)") == []
    assert changed("g.node[0].op_type = 'Gemm'") == ["if then_branch: node 0 (yes) differs"]
    assert "'w'" in changed("g.initializer[0].dims[0] = 2")[0]
    assert "if then_branch output" in changed("g.output[0].name = 'z'")[0]
    assert changed("n.input[0] = 'd'") == ["node 0 (if) differs"]
    assert changed("del n.attribute[0]") == ["node 0 (if) differs"]


def test_each_kind_of_structural_change_is_told() -> None:
    base = linear()

    def changed(edit: str) -> list[str]:
        other = onnx.ModelProto()
        other.CopyFrom(base)
        exec(edit, {"m": other, "g": other.graph})
        return structural_differences(base, other)

    assert changed("pass") == []
    assert "ir_version" in changed("m.ir_version = 9")[0]
    assert "opset_import" in changed("m.opset_import[0].version = 18")[0]
    assert "product" in changed("g.node[0].op_type = 'Gemm'")[0]
    assert "nodes became" in changed("del g.node[1]")[0]
    assert "'w'" in changed("g.initializer[0].name = 'v'")[0]
    assert "output" in changed("g.output[0].name = 'z'")[0]
    assert "metadata_props" in changed("m.metadata_props.add(key='a', value='b')")[0]
    assert "producer_name" in changed("m.producer_name = 'me'")[0]


NARROW = (
    *(TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT4),
    *(TensorProto.UINT4, TensorProto.INT2, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2),
    *(TensorProto.FLOAT8E8M0, TensorProto.FLOAT4E2M1),
)


@pytest.mark.parametrize("element_type", NARROW, ids=TensorProto.DataType.Name)
@pytest.mark.parametrize("raw", [True, False])
def test_narrow_values_go_back_in_the_form_that_they_had(element_type: int, raw: bool) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(element_type)
    before, after = np.array([1, 0, 1, 1, 0]).astype(dtype), np.array([0, 1, 1, 0, 1]).astype(dtype)
    given = numpy_helper.from_array(before).raw_data if raw else before
    tensor = helper.make_tensor("w", element_type, [5], given, raw=raw)
    form = set(_fields(tensor))
    assert to_numpy(tensor).tobytes() == before.tobytes()
    set_values(tensor, after)
    assert set(_fields(tensor)) == form
    assert to_numpy(tensor).tobytes() == after.tobytes()


def _fields(tensor: TensorProto) -> list[str]:
    return [field.name for field, _ in tensor.ListFields()]
