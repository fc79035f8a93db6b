"""Files that strangers send: recognised by content, refused with a reason."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from prune_engine.errors import ExternalDataError, ModelEmptyError, ModelError, ModelFormatError
from prune_engine.formats import import_onnx, input_infos, output_infos, read_model, source_from_proto
from tests.prune_engine.formats.graphs import linear, model, values
from tests.prune_engine.formats.running import distance, run


def write(folder: Path, content: bytes, name: str = "m.onnx") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_an_onnx_file_is_read_whatever_it_is_called(tmp_path: Path) -> None:
    data = linear().SerializeToString()
    source = read_model(write(tmp_path, data, "upload.bin"), filename="mine.onnx")
    assert (source.format, source.route, source.filename, source.bytes) == (
        "onnx",
        "as sent",
        "mine.onnx",
        len(data),
    )
    assert source.proto == linear()
    assert [(i.name, i.dtype, i.shape) for i in input_infos(source.proto)] == [("x", "float32", ("n", 4))]
    assert [o.name for o in output_infos(source.proto)] == ["y"]
    assert source_from_proto(linear()).sha256 == source.sha256


def torch_save() -> bytes:
    stream = io.BytesIO()
    torch.save({"w": torch.zeros(2)}, stream)
    return stream.getvalue()


def zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return stream.getvalue()


def safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + b"\0\0\0\0"


def npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "PNG"),
        (b"<!DOCTYPE html><html>sign in</html>", "HTML"),
        (pickle.dumps({"a": 1}), "pickle"),
        (torch_save(), "torch.save"),
        (zipped("m/archive_format", "m/data/aotinductor/model/x.so"), "torch.export"),
        (zipped("serialized_exported_program.json", "version"), "torch 2.7"),
        (zipped("saved_model.pb", "variables/variables.index"), "SavedModel"),
        (zipped("a.npy", "b.npy"), "npz"),
        (zipped("photo/1.txt"), "zip archive"),
        (safetensors(), "safetensors"),
        (npy(), "NumPy"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5"),
        (b"\x1f\x8b\x08" + bytes(64), "gzip"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS"),
        (b'{"a": 1}', "JSON"),
        (b"hello there, this is a model", "text"),
        (bytes(range(200, 256)) * 4, "neither ONNX nor TorchScript"),
    ],
)
def test_foreign_files_are_named(tmp_path: Path, content: bytes, what: str) -> None:
    with pytest.raises(ModelFormatError, match=what) as caught:
        read_model(write(tmp_path, content))
    assert len(caught.value.message) > 60, "it says what to send instead"


def test_an_empty_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelEmptyError):
        read_model(write(tmp_path, b""))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_file_that_is_cut_off_is_told_from_a_foreign_one(tmp_path: Path, share: float) -> None:
    data = linear().SerializeToString()
    with pytest.raises(ModelError) as caught:
        read_model(write(tmp_path, data[: int(len(data) * share)]))
    assert not isinstance(caught.value, ModelFormatError)


def test_a_torchscript_archive_that_is_cut_off_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cut off"):
        read_model(write(tmp_path, zipped("m/constants.pkl", "m/code/a.py")[:-40]))


@pytest.mark.parametrize("place", ["initializer", "constant", "subgraph"])
def test_external_data_is_refused_and_never_opened(tmp_path: Path, place: str) -> None:
    secret = write(tmp_path, bytes(48), "secret.bin")
    os.utime(secret, (1, 1))
    proto = linear()
    tensor = proto.graph.initializer[0]
    if place == "constant":
        tensor = proto.graph.node.add(op_type="Constant", output=["c"]).attribute.add(name="value", type=4).t
    elif place == "subgraph":
        inner = proto.graph.node.add(op_type="If", input=["x"], output=["c"]).attribute.add(
            name="then_branch", type=5
        )
        tensor = inner.g.initializer.add(name="w")
    tensor.CopyFrom(
        TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 3], data_location=TensorProto.EXTERNAL)
    )
    tensor.external_data.add(key="location", value="secret.bin")
    with pytest.raises(ExternalDataError, match="another file"):
        read_model(write(tmp_path, proto.SerializeToString()))
    assert secret.stat().st_atime == 1


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("g.initializer[0].dims[0] = -4", "negative"),
        ("g.initializer[0].dims[0] = 2**50", "takes .* bytes, but holds 48"),
        ("g.initializer[0].raw_data = g.initializer[0].raw_data[:-1]", "takes 48 bytes, but holds 47"),
        ("g.initializer[0].data_type = 99", "unknown element type"),
        ("del g.initializer[0]", "'w'.*no initializer"),
        ("del g.node[:]", "without a single node"),
        ("m.opset_import.add(domain='ai.onnx', version=12)", "two versions"),
        ("del m.opset_import[:]", "opset"),
        ("g.output[0].name = 'nothing'", "Nothing computes"),
        ("g.node.add(op_type='Relu', input=['x'], output=['h'])", "twice"),
        ("g.node[0].input[0] = 'y'", "cycle"),
        ("m.ir_version = 14", "IR version"),
        ("g.sparse_initializer.add().values.name = 's'", "sparse|unknown element"),
        ("g.node[0].op_type = 'NoSuchOperator'", r"NoSuchOperator \(domain ai.onnx, opset 17\) at product"),
    ],
)
def test_a_damaged_graph_is_refused_with_a_sentence(tmp_path: Path, edit: str, message: str) -> None:
    proto = linear()
    exec(edit, {"m": proto, "g": proto.graph})
    with pytest.raises(ModelError, match=message) as caught:
        read_model(write(tmp_path, proto.SerializeToString()))
    assert caught.value.message.endswith(".")


def test_nodes_out_of_order_are_put_in_order() -> None:
    proto = linear()
    nodes = list(reversed(proto.graph.node))
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    assert import_onnx(proto)(torch.ones(2, 4))[0].shape == (2, 3)


def test_a_file_whose_nodes_are_out_of_order_is_read_as_onnxruntime_reads_it(tmp_path: Path) -> None:
    proto = model(
        [helper.make_node("Relu", ["h"], ["y"]), helper.make_node("MatMul", ["x", "w"], ["h"])],
        {"w": values(4, 3)},
        output=("n", 3),
    )
    source = read_model(write(tmp_path, proto.SerializeToString()))
    assert [node.op_type for node in source.proto.graph.node] == ["Relu", "MatMul"]
    x = torch.randn(2, 4)
    assert distance(import_onnx(source.proto)(x), run(source.proto, x)) < 1e-6


def test_typed_storage_is_measured_too() -> None:
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [4, 3], list(range(12)))
    tensor.float_data.append(1.0)
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"v": values(1)})
    proto.graph.initializer[0].CopyFrom(tensor)
    with pytest.raises(ModelError, match="takes 12 values, but holds 13"):
        source_from_proto(proto)


def test_the_shared_resnet20_is_read_as_it_is(shared_models: Path) -> None:
    path = shared_models / "cifar10_resnet" / "resnet20.onnx"
    source = read_model(path)
    assert source.proto == onnx.load(path)
    module = import_onnx(source.proto)
    assert len(module.prunable) == 20
    expected = sum(numpy_helper.to_array(t).size for t in source.proto.graph.initializer if len(t.dims) > 1)
    assert sum(np.prod(weight.shape) for weight in module.prunable) == expected
