"""TorchScript archives: scanned, converted in a process of their own, compared with the original."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from prune_engine.errors import ConversionError, ModelUnsafeError
from prune_engine.formats import import_onnx, read_model
from tests.prune_engine.formats.running import distance, run
from tests.prune_engine.formats.zoo import build, inputs

IMAGES = [(((2, 16, 16, 3), "float32"),), (((2, 3, 16, 16), "float32"),)]  # NHWC does not run, NCHW does
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")


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


def test_the_shared_resnet20_agrees_in_both_formats(shared_models: Path) -> None:
    folder = shared_models / "cifar10_resnet"
    source = read_model(folder / "resnet20.torchscript.pt", candidate_shapes=[(((2, 3, 32, 32), "float32"),)])
    module = import_onnx(source.proto).eval()
    assert "layer1.0.conv1.weight" in module.weights
    x = torch.randn(3, 3, 32, 32)
    assert distance(module(x), run(onnx.load(folder / "resnet20.onnx"), x)) < 1e-4
    assert np.isfinite(module.state_values()["bn1.running_var"]).all()
