"""Models in files: what is written is what is read, whole or in several files."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from prune_engine.errors import ModelError
from prune_engine.formats import read_model, save_model, source_from_proto, storage, structural_differences
from prune_engine.formats.skeleton import Place, each_tensor, payload, skeleton, tensor_bytes
from prune_engine.measure import measure_size, session
from tests.prune_engine.formats.graphs import linear, model, values


@pytest.fixture
def tiny_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if one protobuf message ended at a few bytes, so that every model is a large one."""
    monkeypatch.setattr(storage, "LARGEST_MESSAGE", 16)
    monkeypatch.setattr(storage, "_MARGIN", 0)
    monkeypatch.setattr(storage, "_SMALLEST_OUTSIDE", 1)
    monkeypatch.setattr(storage, "_PIECE", 7)


def wide() -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])]
    return model(nodes, {"w": values(4, 600), "b": values(600)}, output=("n", 600))


@pytest.mark.usefixtures("tiny_messages")
def test_a_large_model_is_written_as_two_files_and_read_back(tmp_path: Path) -> None:
    proto = wide()
    storage.write(proto, tmp_path / "model.onnx")
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model.onnx.data"}
    back = storage.read(tmp_path / "model.onnx")
    assert [payload(t) for _, t in each_tensor(back)] == [payload(t) for _, t in each_tensor(proto)]
    assert structural_differences(proto, back) == []


@pytest.mark.usefixtures("tiny_messages")
def test_a_large_model_runs_is_measured_and_hashed(tmp_path: Path) -> None:
    proto, x = wide(), np.ones((2, 4), "f")
    (found,) = session(proto).run(None, {"x": x})
    w, b = (numpy_helper.to_array(t) for t in proto.graph.initializer)
    np.testing.assert_allclose(found, x @ w + b, rtol=1e-5, atol=1e-6)
    storage.write(proto, tmp_path / "model.onnx")
    contents = (tmp_path / "model.onnx").read_bytes() + (tmp_path / "model.onnx.data").read_bytes()
    assert storage.digest(proto) == (hashlib.sha256(contents).hexdigest(), len(contents))
    size, compressed = measure_size(proto)
    assert size == len(contents)
    assert compressed < size


@pytest.mark.usefixtures("tiny_messages")
def test_a_large_model_is_handed_out_as_a_zip_that_onnxruntime_loads(tmp_path: Path) -> None:
    source = source_from_proto(wide())
    assert save_model(source.proto, tmp_path, source.storage) == "model.zip"
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        archive.extractall(tmp_path / "out")
    onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    assert read_model(tmp_path / "model.zip").proto.graph.node == source.proto.graph.node


def test_a_small_model_is_one_file_of_the_same_bytes(tmp_path: Path) -> None:
    data = linear().SerializeToString()
    assert save_model(linear(), tmp_path) == "model.onnx"
    assert (tmp_path / "model.onnx").read_bytes() == data
    assert storage.digest(linear()) == (hashlib.sha256(data).hexdigest(), len(data))


def test_the_checker_s_reasons_come_through_without_the_large_tensors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(storage, "_CHECKED_INSIDE", 1)
    good = linear()
    storage.check(good)
    assert good == linear(), "nothing of the model is touched"
    bad = linear()
    bad.graph.node[0].input[1] = "nowhere"
    with pytest.raises(onnx.checker.ValidationError, match="nowhere"):
        storage.check(bad)


def test_a_model_that_is_large_beside_its_initializers_is_refused_with_a_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def too_large(_: onnx.ModelProto) -> bytes:
        raise storage.EncodeError("Failed to serialize proto")

    monkeypatch.setattr(onnx.ModelProto, "SerializeToString", too_large)
    with pytest.raises(ModelError, match="2 GiB"):
        storage.to_bytes(linear())


def test_a_skeleton_differs_in_the_named_tensors_alone() -> None:
    proto = linear(doc_string="words")
    proto.metadata_props.add(key="a", value="b")
    constant = proto.graph.node.add(op_type="Constant", output=["c"], doc_string="here")
    constant.attribute.append(helper.make_attribute("value", numpy_helper.from_array(values(3), "t")))
    assert skeleton(proto, {}) == proto
    bones = skeleton(proto, {"w": Place("data", 5, 48), "node 2/value": Place("data", 60, 12)})
    w, held = bones.graph.initializer[0], bones.graph.node[2].attribute[0].t
    for tensor in (w, held):
        assert tensor.data_location == TensorProto.EXTERNAL
        assert not tensor.HasField("raw_data")
    assert {entry.key: entry.value for entry in w.external_data} == {
        "location": "data",
        "offset": "5",
        "length": "48",
    }
    assert bones.graph.initializer[1] == proto.graph.initializer[1]
    assert list(dict(each_tensor(proto))) == ["w", "b", "node 2/value"]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "int8", "bool"])
def test_bytes_of_a_tensor_are_the_same_however_it_is_stored(dtype: str) -> None:
    array = (np.arange(6).reshape(2, 3) % 2).astype(dtype)
    typed = helper.make_tensor("t", helper.np_dtype_to_tensor_dtype(array.dtype), (2, 3), array.reshape(-1))
    assert payload(typed) == payload(numpy_helper.from_array(array)) == array.tobytes()
    assert tensor_bytes(typed) == array.nbytes
