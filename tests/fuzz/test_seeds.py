"""What the fuzzing found, each as small as it goes: refused with a code, and no bug any more."""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from onnx import TensorProto, helper

from prune_engine.data.read import read_data
from prune_engine.errors import ConversionError, ModelError, PruneError
from prune_engine.formats import import_onnx, input_infos
from prune_engine.formats.conversion.pt2 import scan_pt2
from prune_engine.formats.conversion.torchscript_export import export
from prune_engine.formats.onnx_file import parse_onnx
from prune_engine.spec import PruneSpec
from tests.prune_engine.formats.conversion.archives import changed
from tests.prune_engine.formats.hostile import endless_loop, model, numbers

pytestmark = pytest.mark.filterwarnings("ignore")


def loop_without_a_body() -> onnx.ModelProto:
    proto = endless_loop()
    next(node for node in proto.graph.node if node.op_type == "Loop").attribute[0].name = "bodies"
    return proto


def axes_that_are_not_there() -> onnx.ModelProto:
    return model([helper.make_node("Unsqueeze", ["h", "axes"], ["big"])], [numbers("axes", 99, -99)])


def order_that_is_none() -> onnx.ModelProto:
    return model([helper.make_node("Transpose", ["h"], ["big"], perm=[7, 9])])


def group_that_is_no_number() -> onnx.ModelProto:
    weight = helper.make_tensor("k", TensorProto.FLOAT, [1, 1, 1], [1.0])
    return model(
        [helper.make_node("Unsqueeze", ["x", "one"], ["i"]),
         helper.make_node("Conv", ["i", "k"], ["big"], group=[[1.0]][0])],
        [numbers("one", 1), weight],
    )  # fmt: skip


def segment_of_a_tensor() -> onnx.ModelProto:
    proto = model([helper.make_node("Neg", ["x"], ["big"])])
    proto.graph.initializer[0].segment.begin = 1
    return proto


@pytest.mark.parametrize(
    "make",
    [
        loop_without_a_body,
        axes_that_are_not_there,
        order_that_is_none,
        group_that_is_no_number,
        segment_of_a_tensor,
    ],
)
def test_a_damaged_node_is_read_or_refused(make: Callable[[], onnx.ModelProto]) -> None:
    with contextlib.suppress(PruneError):
        import_onnx(parse_onnx(make().SerializeToString()))


@pytest.mark.parametrize("size", [-1, -(2**63)])
def test_a_negative_size_of_an_input_is_an_open_one(size: int) -> None:
    proto = model([helper.make_node("Neg", ["x"], ["big"])])
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size
    module = import_onnx(parse_onnx(proto.SerializeToString()))
    assert module(torch.ones(3, 4))[0].shape == (3, 2)


def test_an_input_of_an_unknown_type_has_a_name_for_it() -> None:
    proto = model([helper.make_node("Neg", ["x"], ["big"])])
    proto.graph.input[0].type.tensor_type.elem_type = 255
    assert input_infos(proto)[0].dtype == "unknown"


def test_torchscript_without_a_forward_is_refused(tmp_path: Path) -> None:
    code = 'class Plain(Module):\n  __parameters__ = ["w", ]\n  __buffers__ = []\n  w : Tensor\n'
    code += "  training : bool\n"
    with pytest.raises(ConversionError, match="no forward"):
        export(changed(tmp_path, code), [(((2, 2), "float32"),)], None)


def parquet(*columns: pa.Array) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table(list(columns), names=[*"abcdef"[: len(columns)]]), stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    "columns",
    [
        (pa.array([1, 2**62]), pa.array([0, 1])),
        (pa.array([1.0, 2.0]), pa.array([b"\xf8", b"a"]).view(pa.string())),
        (pa.array([b"\xf8", b"a"]).view(pa.string()), pa.array([0, 1])),
    ],
    ids=["large integers", "labels that are no text", "texts that are none"],
)
def test_odd_values_of_a_table_are_read_or_refused(tmp_path: Path, columns: tuple[pa.Array, ...]) -> None:
    path = tmp_path / "data.parquet"
    path.write_bytes(parquet(*columns))
    with contextlib.suppress(PruneError):
        read_data(path, PruneSpec(density=0.5), name="data")


@pytest.mark.parametrize(
    "config", [b"[]", b'{"config": []}', b'{"config": {"w": 1}}', b'{"config": {"w": {}}}', b"1"]
)
def test_a_config_of_another_form_is_damage(tmp_path: Path, config: bytes) -> None:
    path = tmp_path / "m.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/models/model.json", "{}")
        archive.writestr("m/data/weights/model_weights_config.json", config)
    with pytest.raises(ModelError, match="damaged"):
        scan_pt2(path)


def test_a_member_without_a_name_is_no_array(tmp_path: Path) -> None:
    """`zipfile` looks at the last letter of a name, whether there is one or not."""
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", b"")
    data = bytearray(path.read_bytes())
    struct.pack_into("<H", data, data.rindex(b"PK\x01\x02") + 28, 0)
    path.write_bytes(data)
    with pytest.raises(PruneError):
        read_data(path, PruneSpec(density=0.5), name="data")


def test_a_column_whose_name_is_no_text_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    stream = io.BytesIO()
    pq.write_table(pa.table({"nameless": [1, 2], "y": [0, 1]}), stream, store_schema=False)
    path.write_bytes(stream.getvalue().replace(b"nameless", b"\x80ameless"))
    with pytest.raises(PruneError):
        read_data(path, PruneSpec(density=0.5), name="data")
