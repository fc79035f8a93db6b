"""The shared ResNets in every format: ONNX, external data in a `.zip`, float16, int8, TorchScript, `.pt2`."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

Array = np.ndarray[Any, Any]


def copies(models: Path, name: str, folder: Path, calibration: Array) -> dict[str, Path]:
    """Every format's file of one model, under `folder`; calibration images are as the model takes them."""
    folder.mkdir(parents=True, exist_ok=True)
    source = models / f"{name}.onnx"
    makers: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
        "onnx": (".onnx", lambda given, made: _copy(given, made)),
        "onnx, external data": (".zip", _bundle),
        "onnx, float16": (".onnx", _half),
        "onnx, int8 QDQ": (".onnx", lambda given, made: _quantise(given, made, calibration)),
        "pt2": (".pt2", _program),
    }
    made = {"torchscript": models / f"{name}.torchscript.pt"}
    for kind, (suffix, make) in makers.items():
        target = folder / f"{name}-{kind.replace(', ', '-').replace(' ', '-')}{suffix}"
        if not target.exists():
            make(source, target)
        made[kind] = target
    return made


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _bundle(source: Path, target: Path) -> None:
    """The weights in a file beside the graph, both in one archive."""
    folder = target.with_suffix("")
    folder.mkdir(exist_ok=True)
    onnx.save_model(
        onnx.load(source), str(folder / "model.onnx"), save_as_external_data=True,
        all_tensors_to_one_file=True, location="model.onnx.data", size_threshold=0,
    )  # fmt: skip
    with zipfile.ZipFile(target, "w") as archive:
        for part in sorted(folder.iterdir()):
            archive.write(part, part.name)


def _half(source: Path, target: Path) -> None:
    """Every float tensor in float16; the inputs and outputs stay float32, behind casts."""
    model = onnx.load(source)
    graph = model.graph
    for tensor in _float_tensors(graph):
        halved = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
        tensor.CopyFrom(halved)
    del graph.value_info[:]
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
    for value in graph.input:
        for node in graph.node:
            node.input[:] = [f"{value.name}_half" if one == value.name else one for one in node.input]
        cast = helper.make_node("Cast", [value.name], [f"{value.name}_half"], to=TensorProto.FLOAT16)
        graph.node.insert(0, cast)
    for value in graph.output:
        for node in graph.node:
            node.output[:] = [f"{value.name}_half" if one == value.name else one for one in node.output]
        graph.node.append(
            helper.make_node("Cast", [f"{value.name}_half"], [value.name], to=TensorProto.FLOAT)
        )
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, str(target))


def _float_tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from (tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
                yield attribute.t


def _quantise(source: Path, target: Path, calibration: Array) -> None:
    """onnxruntime's static quantisation with Q/DQ pairs, int8 weights per channel."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    name = onnx.load(source).graph.input[0].name
    batches = iter([{name: part} for part in np.array_split(calibration, 8)])

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Array] | None:
            return next(batches, None)

    quantize_static(
        str(source), str(target), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip


class _FoldedResNet(nn.Module):
    """The shared net in torch: BatchNorm folded, shortcuts that skip pixels and pad channels."""

    def __init__(self, weights: list[Tensor], biases: list[Tensor], head: tuple[Tensor, Tensor]) -> None:
        super().__init__()
        widths = [weight.shape[0] for weight in weights]
        self.strides = [1] + [
            2 if position % 2 and widths[position] > widths[position - 1] else 1
            for position in range(1, len(widths))
        ]
        self.convolutions = nn.ModuleList()
        for weight, bias, stride in zip(weights, biases, self.strides, strict=True):
            convolution = nn.Conv2d(weight.shape[1], weight.shape[0], 3, stride, 1)
            convolution.weight, convolution.bias = nn.Parameter(weight), nn.Parameter(bias)
            self.convolutions.append(convolution)
        self.linear = nn.Linear(head[0].shape[1], head[0].shape[0])
        self.linear.weight, self.linear.bias = nn.Parameter(head[0]), nn.Parameter(head[1])

    def forward(self, image: Tensor) -> Tensor:
        x = self.convolutions[0](image).relu()
        for position in range(1, len(self.convolutions), 2):
            first, second = self.convolutions[position], self.convolutions[position + 1]
            shortcut = x
            if self.strides[position] == 2:
                more = (second.out_channels - x.shape[1]) // 2
                shortcut = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, more, more))
            x = (second(first(x).relu()) + shortcut).relu()
        return self.linear(x.mean((2, 3)))  # type: ignore[no-any-return]


def _program(source: Path, target: Path) -> None:
    """The net rebuilt in torch from the ONNX file's weights, as `torch.export` writes it, any batch size."""
    graph = onnx.load(source).graph
    tensors = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in graph.initializer}
    layers = [node for node in graph.node if node.op_type == "Conv"]
    head = next(node for node in graph.node if node.op_type == "Gemm")
    net = _FoldedResNet(
        [tensors[node.input[1]] for node in layers],
        [tensors[node.input[2]] for node in layers],
        (tensors[head.input[1]], tensors[head.input[2]]),
    ).eval()
    program = torch.export.export(
        net, (torch.rand(2, 3, 32, 32),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    torch.export.save(program, target)
