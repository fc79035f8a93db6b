"""TorchScript archives: scanned, converted in a process of their own, compared with the original."""

from __future__ import annotations

import contextlib
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from prune_engine.errors import ConversionError, ModelError, ModelUnsafeError
from prune_engine.formats import import_onnx, read_model
from prune_engine.formats.conversion import torchscript_export
from prune_engine.formats.conversion.torchscript import scan_archive
from prune_engine.formats.conversion.torchscript_export import ROUTE, ROUTE_EXPORT, export
from prune_engine.formats.recognise import recognise
from tests.prune_engine.formats.damaged import damaged
from tests.prune_engine.formats.running import distance, run
from tests.prune_engine.formats.zoo import build, inputs

IMAGES = [(((2, 16, 16, 3), "float32"),), (((2, 3, 16, 16), "float32"),)]  # NHWC does not run, NCHW does
pytestmark = pytest.mark.filterwarnings("ignore")


def trace(folder: Path, net: nn.Module, x: Tensor) -> Path:
    path = folder / "model.pt"
    torch.jit.trace(net, x).save(str(path))
    return path


def test_a_trace_keeps_its_names_and_batchnorm(tmp_path: Path) -> None:
    net = build("resnet")
    source = read_model(trace(tmp_path, net, inputs("resnet", 1)), candidate_shapes=IMAGES)
    assert (source.format, source.route) == ("torchscript", "torch.onnx.export, TorchScript-based, opset 17")
    assert source.filename == "model.pt"
    module = import_onnx(source.proto).eval()
    assert set(module.weights) == {name for name, _ in net.named_parameters()}
    assert "0.1.running_var" in module.state_values()
    x = inputs("resnet", 5)
    torch.testing.assert_close(module(x)[0], net(x), rtol=1e-4, atol=1e-5)
    assert distance(module(x), run(source.proto, x)) < 1e-4


def test_equal_parameters_are_not_merged_but_shared_ones_stay_shared(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
            self.b.load_state_dict(self.a.state_dict())
            self.c.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.c(torch.relu(self.b(torch.relu(self.a(x)))))

    path = trace(tmp_path, Net().eval(), torch.randn(2, 4))
    module = import_onnx(read_model(path, candidate_shapes=[(((2, 4), "float32"),)]).proto)
    assert len(module.prunable) == 2
    assert {"a.weight", "b.weight", "a.bias", "b.bias", "c.bias"} <= set(module.weights)


def test_a_scripted_module_with_unflatten_is_converted(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(12, 12), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x).unflatten(-1, (3, 4))).flatten(1)

    path = tmp_path / "scripted.pt"
    torch.jit.script(Net().eval()).save(str(path))
    source = read_model(path, candidate_shapes=[(((2, 12), "float32"),)])
    assert import_onnx(source.proto)(torch.randn(7, 12))[0].shape == (7, 6)


def test_a_trace_made_in_training_mode_is_refused(tmp_path: Path) -> None:
    net = build("vgg").train()
    with pytest.raises(ConversionError, match="training mode"):
        read_model(trace(tmp_path, net, inputs("vgg", 2)), candidate_shapes=IMAGES)


def test_shapes_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    path = trace(tmp_path, build("lenet"), inputs("lenet", 2))
    with pytest.raises(ConversionError, match=r"\(2, 7\)"):
        read_model(path, candidate_shapes=[(((2, 7), "float32"),)])
    with pytest.raises(ConversionError, match="no data"):
        read_model(path)


def test_a_batch_size_that_the_trace_wrote_down_is_told(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x.reshape(2, 8))

    with pytest.raises(ConversionError, match="batch size"):
        read_model(
            trace(tmp_path, Net().eval(), torch.randn(2, 2, 4)), candidate_shapes=[(((2, 2, 4), "float32"),)]
        )


def test_code_that_runs_on_loading_is_refused_before_it_runs(tmp_path: Path) -> None:
    class Trap(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(2, 2))

        @torch.jit.export
        def __getstate__(self) -> tuple[Tensor, bool]:
            return self.w, self.training

        @torch.jit.export
        def __setstate__(self, state: tuple[Tensor, bool]) -> None:
            raise RuntimeError("sprung")

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.w

    path = tmp_path / "trap.pt"
    torch.jit.script(Trap()).save(str(path))
    with pytest.raises(ModelUnsafeError, match=r"__[gs]etstate__"):
        read_model(path, candidate_shapes=[(((2, 2), "float32"),)])


def test_calls_that_reach_for_files_or_memory_are_refused(tmp_path: Path) -> None:
    class Reader(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.from_file("/etc/hostname", False, 4)

    path = tmp_path / "reader.pt"
    torch.jit.script(Reader()).save(str(path))
    with pytest.raises(ModelUnsafeError, match="from_file"):
        read_model(path, candidate_shapes=[(((2, 4), "float32"),)])


def test_running_sums_of_booleans_are_whole_numbers(tmp_path: Path) -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.fc = nn.Embedding(9, 4), nn.Linear(4, 2)

        def forward(self, ids: Tensor) -> Tensor:
            return self.fc(
                self.table((ids != 0).cumsum(-1)) + (ids != 0).cumsum(1, dtype=torch.float32)[..., None]
            )

    path = tmp_path / "m.pt"
    torch.jit.script(Positions().eval()).save(str(path))
    _, route, notes = export(path, [(((2, 7), "int64"),)], None)
    assert (route, notes) == (ROUTE, [])


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 2)

    def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
        return {"first": self.a(left), "second": self.b(right)}


class Tagger(nn.Module):
    """Named tokens, a scripted recurrent layer, two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.e, self.r, self.o = nn.Embedding(10, 8), nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 2)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return (self.o(self.r(self.e(ids))[0]) * mask.unsqueeze(-1)).sum(1)


PAIR = [(((2, 4), "float32"), ((2, 4), "float32"))]


@pytest.mark.parametrize("scripted", [True, False])
def test_a_dict_of_outputs_keeps_its_keys(tmp_path: Path, scripted: bool) -> None:
    net, x, path = TwoHeads().eval(), torch.randn(2, 4), tmp_path / "m.pt"
    made = torch.jit.script(net) if scripted else torch.jit.trace(net, (x, x), strict=False)
    made.save(str(path))
    proto, route, notes = export(path, PAIR, None)
    assert (route, notes) == (ROUTE, [])
    assert [v.name for v in proto.graph.input] == ["left", "right"]
    assert [v.name for v in proto.graph.output] == ["first", "second"]


def test_nested_outputs_are_numbered(tmp_path: Path) -> None:
    class Nested(TwoHeads):
        def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:  # type: ignore[override]
            return self.a(left), (self.b(right), self.b(left))

    path, x = tmp_path / "m.pt", torch.randn(2, 4)
    torch.jit.trace(Nested().eval(), (x, x)).save(str(path))
    proto, _, _ = export(path, PAIR, None)
    assert [v.name for v in proto.graph.output] == ["output_0", "output_1", "output_2"]


def test_shapes_may_be_said_instead_of_found(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.jit.script(Tagger().eval()).save(str(path))
    specs = {"mask": [[None, "tokens"], "float32"], "ids": [[None, "tokens"], "int64"]}
    proto, route, _ = export(path, [], specs)
    assert route == ROUTE
    dims = [[d.dim_param for d in v.type.tensor_type.shape.dim] for v in proto.graph.input]
    assert dims == [["batch", "tokens"], ["batch", "tokens"]]
    assert {w.name for w in import_onnx(proto).prunable} >= {"e.weight", "r.weight_ih_l0", "o.weight"}
    with pytest.raises(ConversionError, match="takes ids, mask"):
        export(path, [], {"x": [[None, 4], "float32"]})


def test_a_frozen_module_works_and_what_it_has_lost_is_said(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.jit.freeze(torch.jit.script(build("resnet"))).save(str(path))
    proto, _, notes = export(path, IMAGES, None)
    assert "frozen" in notes[0]
    assert len(import_onnx(proto).prunable) > 3


def test_the_second_route_is_taken_where_the_first_fails_and_keeps_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> onnx.ModelProto:
        raise ConversionError("aten::made_up is missing.")

    monkeypatch.setattr(torchscript_export, "_legacy", fails)
    net, path = build("resnet"), tmp_path / "m.pt"
    torch.jit.script(net).save(str(path))
    proto, route, notes = export(path, IMAGES, None)
    assert route == ROUTE_EXPORT
    assert "aten::made_up is missing" in notes[0]
    assert set(import_onnx(proto).weights) == {name for name, _ in net.named_parameters()}
    x = torch.randn(5, 3, 16, 16)
    assert distance([net(x)], run(proto, x)) < 1e-4


def test_both_reasons_are_told_where_both_routes_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for way, reason in (("_legacy", "first reason"), ("_through_export", "second reason")):

        def fails(*_: object, reason: str = reason) -> onnx.ModelProto:
            raise ConversionError(reason)

        monkeypatch.setattr(torchscript_export, way, fails)
    with pytest.raises(ConversionError, match=r"first reason.*second reason"):
        export(trace(tmp_path, build("resnet"), inputs("resnet", 2)), IMAGES, None)


def test_class_names_are_no_custom_operators(tmp_path: Path) -> None:
    """torchvision's classes live in `torchvision.ops.misc`; only calls of `ops.<namespace>` are operators."""
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/code/a.py", "x : __torch__.torchvision.ops.misc.Conv2dNormActivation")
    scan_archive(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/code/a.py", "_0 = ops.mine.evil(x)")
    with pytest.raises(ModelUnsafeError, match="mine::evil"):
        scan_archive(path)


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"m/CODE/a.PY": "def __setstate__(self): pass"}, "__setstate__"),
        ({"m/code/a.py": "x", "m/code/A.py": "def __setstate__(self): pass"}, "two members"),
    ],
)
def test_code_cannot_hide_behind_capital_letters(tmp_path: Path, members: dict[str, str], says: str) -> None:
    """torch finds `code/a.py` under `CODE/A.PY` as well."""
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ModelUnsafeError, match=says):
        scan_archive(path)


def test_damage_is_an_error_and_no_crash(tmp_path: Path) -> None:
    data = trace(tmp_path, build("lenet"), inputs("lenet", 2)).read_bytes()
    path = tmp_path / "broken.pt"
    for broken in damaged(data, 150):
        path.write_bytes(broken)
        with contextlib.suppress(ModelError):
            recognise(path)
            scan_archive(path)


def test_the_shared_resnet20_agrees_in_both_formats(shared_models: Path) -> None:
    folder = shared_models / "cifar10_resnet"
    source = read_model(folder / "resnet20.torchscript.pt", candidate_shapes=[(((2, 3, 32, 32), "float32"),)])
    module = import_onnx(source.proto).eval()
    assert "layer1.0.conv1.weight" in module.weights
    x = torch.randn(3, 3, 32, 32)
    assert distance(module(x), run(onnx.load(folder / "resnet20.onnx"), x)) < 1e-4
    assert np.isfinite(module.state_values()["bn1.running_var"]).all()
