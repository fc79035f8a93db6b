"""`.pt2` archives: looked through, exported in a process of their own, compared with the original."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prune_engine.errors import ConversionError, ModelError, ModelUnsafeError
from prune_engine.formats import import_onnx, read_model
from prune_engine.formats.conversion.pt2 import scan_pt2
from prune_engine.formats.conversion.pt2_export import export
from tests.prune_engine.formats.damaged import damaged
from tests.prune_engine.formats.running import distance, run

pytestmark = pytest.mark.filterwarnings("ignore")
DYNAMIC = torch.export.Dim.DYNAMIC


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(8, 4)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        y = self.fc(torch.relu(self.norm(self.conv(image))).flatten(2).mean(-1))
        return {"logits": y, "probabilities": y.softmax(-1)}


def save(path: Path, net: nn.Module, *args: Tensor, dynamic_shapes: Any = None, train: bool = False) -> Path:
    program = torch.export.export(net.train(train), args, dynamic_shapes=dynamic_shapes)
    torch.export.save(program, path)
    return path


def change(
    path: Path,
    name: str,
    edit: Callable[[str], str],
    extra: dict[str, bytes] | None = None,
    replaced: dict[str, bytes] | None = None,
) -> Path:
    """The archive with one of its JSON files edited, and perhaps more members, or others in their place."""
    changed = path.with_name("changed.pt2")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(changed, "w") as target:
        for entry in source.infolist():
            content = (replaced or {}).get(entry.filename.partition("/")[2]) or source.read(entry)
            if entry.filename.endswith(name):
                text = content.decode()
                assert edit(text) != text or extra, "the edit has to hit"
                content = edit(text).encode()
            target.writestr(entry.filename, content)
        root = source.namelist()[0].partition("/")[0]
        for member, data in (extra or {}).items():
            target.writestr(f"{root}/{member}", data)
    return changed


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    torch.manual_seed(0)
    net = Net()
    path = tmp_path_factory.mktemp("pt2") / "dynamic.pt2"
    shapes = {"image": {0: DYNAMIC, 2: DYNAMIC, 3: DYNAMIC}}
    return save(path, net, torch.randn(2, 3, 8, 8), dynamic_shapes=shapes), net


def test_an_archive_becomes_onnx_with_the_names_of_its_parameters(dynamic: tuple[Path, nn.Module]) -> None:
    path, net = dynamic
    source = read_model(path, filename="net.pt2")
    assert (source.format, source.filename, source.warnings) == ("pt2", "net.pt2", ())
    assert source.route == "torch.onnx.export of a torch.export program, opset 20"
    assert [o.name for o in source.proto.graph.output] == ["logits", "probabilities"]
    module = import_onnx(source.proto).eval()
    assert set(module.weights) == {name for name, _ in net.named_parameters()}
    assert {weight.name for weight in module.prunable} == {"conv.weight", "fc.weight"}
    assert "norm.running_var" in module.state_values()
    x = torch.randn(5, 3, 12, 9)
    assert distance(module(x), run(source.proto, x)) < 1e-4
    torch.testing.assert_close(module(x)[0], net(x)["logits"], rtol=1e-4, atol=1e-5)


def test_a_fixed_batch_stays_in_the_file_and_is_free_in_training(tmp_path: Path) -> None:
    path = save(tmp_path / "fixed.pt2", Net(), torch.randn(1, 3, 8, 8))
    proto, notes = export(path)
    assert "fixed shapes" in notes[0]
    assert [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 8, 8]
    assert import_onnx(proto)(torch.randn(6, 3, 8, 8))[0].shape == (6, 4)


def test_several_inputs_and_keyword_arguments_keep_their_names(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.fc = nn.Embedding(10, 4), nn.Linear(4, 2)

        def forward(self, ids: Tensor, *, scale: Tensor) -> Tensor:
            return self.fc(self.table(ids).sum(1)) * scale

    net, args, named = Two().eval(), (torch.tensor([[1, 9], [2, 3]]),), {"scale": torch.ones(2, 1)}
    shapes = {"ids": {0: DYNAMIC}, "scale": {0: DYNAMIC}}
    path = tmp_path / "two.pt2"
    torch.export.save(torch.export.export(net, args, named, dynamic_shapes=shapes), path)
    proto, notes = export(path)
    assert [v.name for v in proto.graph.input] == ["ids", "scale"]
    assert [v.name for v in proto.graph.output] == ["output"]
    assert notes == []
    assert {w.name for w in import_onnx(proto).prunable} == {"table.weight", "fc.weight"}


def test_a_program_in_training_mode_is_refused(tmp_path: Path) -> None:
    class Dropping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.dropout(self.fc(x), 0.5, self.training)

    with pytest.raises(ConversionError, match="training mode"):
        export(save(tmp_path / "drop.pt2", Dropping(), torch.randn(2, 4), train=True))


def test_a_norm_by_its_own_input_is_no_training_mode(tmp_path: Path) -> None:
    """Weight standardisation, as NFNets have it, is written with batch_norm."""

    class Standardised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(2, 4))

        def forward(self, x: Tensor) -> Tensor:
            weight = nn.functional.batch_norm(self.weight[None], None, None, training=True)[0]
            return nn.functional.linear(x, weight)

    shapes = {"x": {0: DYNAMIC}}
    export(save(tmp_path / "std.pt2", Standardised(), torch.randn(2, 4), dynamic_shapes=shapes))


def test_an_output_class_of_a_library_that_is_not_here_becomes_its_names(
    dynamic: tuple[Path, nn.Module],
) -> None:
    kind = "transformers.modeling_outputs.MadeUpOutput"

    def as_that_class(text: str) -> str:
        program = json.loads(text)
        signature = program["graph_module"]["module_call_graph"][0]["signature"]
        signature["out_spec"] = signature["out_spec"].replace("builtins.dict", kind)
        return json.dumps(program)

    proto, _ = export(change(dynamic[0], "models/model.json", as_that_class))
    assert [o.name for o in proto.graph.output] == ["logits", "probabilities"]


@pytest.mark.parametrize(
    ("find", "put", "says"),
    [
        ("torch.ops.aten.relu.default", "torch.os.system", "torch.os.system"),
        ("torch.ops.aten.relu.default", "torch.ops.mine.evil.default", "custom operators"),
        ("torch.ops.aten.relu.default", "torch.ops.aten.as_strided.default", "as_strided"),
        ("torch.ops.aten.relu.default", "torch.ops.aten.set_.source_Storage", "set_"),
        ("torch.ops.aten.relu.default", "torch.ops.prims.resize.default", "prims.resize"),
        ("torch.ops.aten.relu.default", "torch.ops.torchvision.read_file.default", "read_file"),
        ("torch.ops.aten.relu.default", "torch.ops.inductor.accumulate_grad_.default", "inductor"),
        ("torch.ops.aten.relu.default", "torch.ops.higher_order.call_torchbind", "call_torchbind"),
        ("torch.ops.aten.relu.default", "torch.ops.aten.from_file.default", "from_file"),
        ("torch.ops.aten.relu.default", "#mine:relu", "#mine:relu"),
        ("Symbol(", "__import__(", "no arithmetic"),
        ("integer=True)", "integer=open)", "no arithmetic"),
        ("Symbol('s", 'Symbol(\'__import__(\\"os\\")', "no arithmetic"),
        ("builtins.dict", "os.path", "os.path"),
    ],
)
def test_what_would_run_code_is_refused_before_torch_sees_it(
    dynamic: tuple[Path, nn.Module], find: str, put: str, says: str
) -> None:
    path = change(dynamic[0], "models/model.json", lambda text: text.replace(find, put))
    with pytest.raises(ModelUnsafeError, match=says):
        read_model(path)


@pytest.mark.parametrize(
    "member",
    [
        "data/constants/opaque_obj_0",
        "data/constants/custom_obj_0",
        "data/aotinductor/model/a.so",
        "x/../../y",
    ],
)
def test_pickles_and_compiled_code_are_refused(dynamic: tuple[Path, nn.Module], member: str) -> None:
    with pytest.raises(ModelUnsafeError):
        read_model(change(dynamic[0], "-", str, {member: b"x"}))


@pytest.mark.parametrize("member", ["data/sample_inputs/model.pt", "data/weights/model.pt"])
def test_pickled_tensors_are_walked_too(dynamic: tuple[Path, nn.Module], member: str) -> None:
    class Runs:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("true",)

    stream = io.BytesIO()
    torch.save(({"x": Runs()},), stream)
    there = {member: stream.getvalue()}
    path = change(dynamic[0], "-", str, *((None, there) if "sample" in member else (there,)))
    with pytest.raises(ModelUnsafeError, match=rf"{member}/data\.pkl .*system"):
        read_model(path)


def test_a_member_that_torch_could_read_instead_of_the_one_that_was_checked_is_refused(
    dynamic: tuple[Path, nn.Module],
) -> None:
    with pytest.raises(ModelUnsafeError, match="two members"):
        read_model(change(dynamic[0], "-", str, {"models/MODEL.json": b"{}"}))


def test_a_payload_that_is_a_pickle_or_too_small_is_refused(dynamic: tuple[Path, nn.Module]) -> None:
    config = "model_weights_config.json"
    with pytest.raises(ModelUnsafeError, match="pickled"):
        read_model(change(dynamic[0], config, lambda t: t.replace('"weight_0"', '"opaque_obj_0"')))
    with pytest.raises(ModelError, match="lacks weight_99"):
        read_model(change(dynamic[0], config, lambda t: t.replace('"weight_0"', '"weight_99"')))
    with pytest.raises(ModelError, match="too small"):
        read_model(change(dynamic[0], config, lambda t: t.replace('{"as_int": 8}', '{"as_int": 80000000}')))


def test_damage_is_an_error_and_no_crash(dynamic: tuple[Path, nn.Module], tmp_path: Path) -> None:
    """Cut off or with flipped bits: refused, or (where a bit has no meaning) still the same model."""
    data = dynamic[0].read_bytes()
    path = tmp_path / "m.pt2"
    refused = 0
    for broken in damaged(data, 150):
        path.write_bytes(broken)
        try:
            scan_pt2(path)
        except ModelError:
            refused += 1
    assert refused > 75


def test_a_file_that_is_damaged_beyond_the_scan_is_refused_by_the_converter(
    dynamic: tuple[Path, nn.Module],
) -> None:
    def lose_a_node(text: str) -> str:
        program = json.loads(text)
        del program["graph_module"]["graph"]["nodes"][1]
        return json.dumps(program)

    with pytest.raises(ConversionError, match=r"torch\.export\.load"):
        read_model(change(dynamic[0], "models/model.json", lose_a_node))
