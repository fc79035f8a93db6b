"""The process that loads a TorchScript archive and exports it.

Run as `python -m prune_engine.formats.torchscript_export`. Reads a request `{"model": path, "shapes": [...]}`
on stdin and writes `model.onnx` and `answer.json` into the
current folder: `{"route", "warnings"}` or `{"error"}`.
"""

from __future__ import annotations

import io
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from prune_engine.errors import ConversionError
from prune_engine.formats.torchscript_symbolics import register_symbolics
from prune_engine.formats.torchscript_untie import untie

OPSET = 17
ROUTE = f"torch.onnx.export, TorchScript-based, opset {OPSET}"
_TOLERANCE = 1e-3  # of the largest output; float32 through two runtimes stays far below it
_FUSED = ("_transformer_encoder_layer_fwd", "_native_multi_head_attention")


def export(path: Path, candidates: Sequence[Sequence[tuple[Sequence[int], str]]]) -> tuple[bytes, list[str]]:
    """The ONNX file of a TorchScript archive and warnings about it.

    Raises:
        ConversionError: with the reason.
    """
    try:
        module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise ConversionError(f"torch.jit.load refuses the file: {_first_line(error)}") from error
    module.eval()
    _refuse_fused(module)
    inputs = _fitting_inputs(module, candidates)
    _refuse_training_mode(module, inputs)
    proto = _export(module, inputs)
    proto = untie(proto, dict(module.state_dict()))
    data: bytes = proto.SerializeToString()
    _compare(module, data, inputs)
    _compare(module, data, _random_inputs([(_with_batch(x.shape, 3), _name(x)) for x in inputs], 1))
    return data, []


def _refuse_fused(module: torch.jit.ScriptModule) -> None:
    text = str(module.inlined_graph)
    for name in _FUSED:
        if name in text:
            raise ConversionError(
                "The TorchScript file was traced without gradients and holds the fused operator "
                f"{name}, which "
                "cannot be trained. Call torch.backends.mha.set_fastpath_enabled(False), trace it "
                "again, or send ONNX."
            )


def _fitting_inputs(
    module: torch.jit.ScriptModule, candidates: Sequence[Sequence[tuple[Sequence[int], str]]]
) -> tuple[Tensor, ...]:
    """Random inputs of the first candidate shapes that the module runs with."""
    reasons = []
    for shapes in candidates:
        inputs = _random_inputs(shapes, 0)
        try:
            _outputs(module, inputs)
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            reasons.append(f"{[tuple(shape) for shape, _ in shapes]}: {_last_line(error)}")
            continue
        return inputs
    raise ConversionError(
        "The TorchScript model runs with none of the shapes that the data could have: "
        + "; ".join(reasons[:4])
        + ". Check that the data belong to this model, and that it was traced with a batch size that "
        "may change."
    )


def _random_inputs(shapes: Sequence[tuple[Sequence[int], str]], seed: int) -> tuple[Tensor, ...]:
    generator = np.random.default_rng(seed)
    inputs = []
    for shape, dtype in shapes:
        values = (
            generator.standard_normal(shape)
            if np.dtype(dtype).kind == "f"
            else generator.integers(0, 2, shape)
        )
        inputs.append(torch.from_numpy(np.asarray(values).astype(dtype)))
    return tuple(inputs)


def _with_batch(shape: Sequence[int], batch: int) -> tuple[int, ...]:
    return (batch, *shape[1:])


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _outputs(module: torch.jit.ScriptModule, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """The tensors that the module returns, flattened as the exporter flattens them."""
    with torch.no_grad():
        result = module(*inputs)
    flat: list[Tensor] = []

    def collect(value: Any) -> None:
        if isinstance(value, Tensor):
            flat.append(value)
        elif isinstance(value, tuple | list):
            for part in value:
                collect(part)
        elif isinstance(value, dict):
            for part in value.values():
                collect(part)

    collect(result)
    return flat


def _refuse_training_mode(module: torch.jit.ScriptModule, inputs: tuple[Tensor, ...]) -> None:
    """A trace made in training mode keeps Dropout and batch statistics, whatever eval() says."""
    again = "It was traced in training mode: call model.eval(), trace it again and send that."
    first, second = _outputs(module, inputs), _outputs(module, inputs)
    if any(_distance(a, b) > _TOLERANCE for a, b in zip(first, second, strict=True)):
        raise ConversionError(
            f"The TorchScript model gives other outputs each time it runs on the same input. {again}"
        )
    try:
        alone = _outputs(module, tuple(x[:1] for x in inputs))
    except RuntimeError:
        return  # the comparison at another batch size will say what is wrong
    for a, b in zip(first, alone, strict=True):
        if a.dim() and a.shape[0] == inputs[0].shape[0] and _distance(a[:1], b) > _TOLERANCE:
            raise ConversionError(f"The outputs of a row depend on the other rows of its batch. {again}")


def _export(module: torch.jit.ScriptModule, inputs: tuple[Tensor, ...]) -> onnx.ModelProto:
    """The legacy exporter on the module as it is: no folding, so that names and BatchNorm stay."""
    names = _input_names(module, len(inputs))
    count = len(_outputs(module, inputs))
    outputs = ["output"] if count == 1 else [f"output_{i}" for i in range(count)]
    register_symbolics(OPSET)
    stream: Any = io.BytesIO()
    try:
        torch.onnx.export(
            module, inputs, stream, dynamo=False, opset_version=OPSET, do_constant_folding=False,
            training=torch.onnx.TrainingMode.EVAL, input_names=names, output_names=outputs,
            dynamic_axes={name: {0: "batch"} for name in (*names, *outputs)},
        )  # fmt: skip
    except (
        RuntimeError,
        ValueError,
        TypeError,
        IndexError,
        KeyError,
        AttributeError,
        NotImplementedError,
    ) as error:
        raise ConversionError(
            f"torch.onnx.export cannot convert the TorchScript file: {_first_line(error)} "
            "Export the original model yourself: torch.onnx.export(model, example, 'model.onnx', "
            "dynamo=True)."
        ) from error
    return onnx.load_model_from_string(stream.getvalue())


def _input_names(module: torch.jit.ScriptModule, count: int) -> list[str]:
    found = [value.debugName().split(".")[0] for value in list(module.graph.inputs())[1:]][:count]
    unique = len(set(found)) == count and not any(name.isdigit() for name in found)
    return found if unique else [f"input_{i}" for i in range(count)]


def _compare(module: torch.jit.ScriptModule, data: bytes, inputs: tuple[Tensor, ...]) -> None:
    """Runs the export in onnxruntime next to the original."""
    import onnxruntime

    batch = inputs[0].shape[0]
    try:
        wanted = _outputs(module, inputs)
    except RuntimeError as error:
        raise ConversionError(
            f"The TorchScript model does not run at batch size {batch}: {_last_line(error)} "
            "It was traced with a fixed batch size; use x.flatten(1) or x.view(x.size(0), -1) and "
            "trace it again."
        ) from error
    try:
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        feed = {i.name: x.numpy() for i, x in zip(session.get_inputs(), inputs, strict=False)}
        found = session.run(None, feed)
    except Exception as error:
        raise ConversionError(
            f"The export does not run in onnxruntime at batch size {batch}: {_last_line(error)}"
        ) from error
    for a, b in zip(wanted, found, strict=True):
        distance = _distance(a, torch.from_numpy(np.asarray(b)))
        if distance > _TOLERANCE:
            raise ConversionError(
                "The exported ONNX gives other outputs than the TorchScript file at batch size "
                f"{batch} (relative "
                f"difference {distance:.2g}). It may have been traced in training mode, or its "
                "control flow depends "
                "on the input. Export the original model to ONNX in eval mode and send that."
            )


def _distance(a: Tensor, b: Tensor) -> float:
    """Largest difference over the largest value; infinite where the shapes differ."""
    if a.shape != b.shape:
        return float("inf")
    if a.numel() == 0:
        return 0.0
    a, b = a.double(), b.double()
    return float((a - b).abs().max() / a.abs().max().clamp_min(1e-6))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def main() -> None:
    """Answers the request on stdin."""
    warnings.filterwarnings("ignore")
    request = json.load(sys.stdin)
    try:
        data, notes = export(Path(request["model"]), request["shapes"])
        Path("model.onnx").write_bytes(data)
        answer: dict[str, Any] = {"route": ROUTE, "warnings": notes}
    except ConversionError as error:
        answer = {"error": error.message}
    Path("answer.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
