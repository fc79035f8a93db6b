"""The process that exports a TorchScript archive, run with `python -m` by `process.py`.

Request: `{"model": path, "shapes": [...], "input_specs": {...} | null}`. The archive has been looked through
by `torchscript.scan_archive`. Two routes are tried; what comes out is compared with the original each time.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor

from prune_engine.errors import ConversionError
from prune_engine.formats.conversion.comparison import (
    TOLERANCE,
    answer,
    compare,
    distance,
    first_line,
    flat_tensors,
    last_line,
)
from prune_engine.formats.conversion.exporter_quirks import put_right
from prune_engine.formats.conversion.operators import IN_GRAPHS, OTHERS, TORCH
from prune_engine.formats.conversion.sequences import without_sequences
from prune_engine.formats.conversion.torchscript_dicts import return_tuples
from prune_engine.formats.conversion.torchscript_inputs import (
    Example,
    argument_names,
    candidates,
    random_inputs,
)
from prune_engine.formats.conversion.torchscript_names import with_names
from prune_engine.formats.conversion.torchscript_symbolics import register_symbolics

OPSET = 17
ROUTE = f"torch.onnx.export, TorchScript-based, opset {OPSET}"
OPSET_EXPORT = 20
ROUTE_EXPORT = f"TS2EPConverter, then torch.onnx.export of the program, opset {OPSET_EXPORT}"
_FUSED = ("_transformer_encoder_layer_fwd", "_native_multi_head_attention")
_KNOWN = OTHERS | IN_GRAPHS
_Trial = tuple[tuple[Tensor, ...], list[Tensor], str]


def export(
    path: Path, shapes: Sequence[Any], input_specs: dict[str, Any] | None
) -> tuple[onnx.ModelProto, str, list[str]]:
    """The ONNX model of a TorchScript archive, the route that made it, and warnings.

    Raises:
        ConversionError: with the reason.
    """
    try:
        module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:  # torch raises whatever its parts raise
        raise ConversionError(f"torch.jit.load refuses the file: {first_line(error)}") from error
    module.eval()
    _refuse_unlisted(module)
    _refuse_fused(module)
    example = _fitting(module, candidates(module, shapes, input_specs))
    _refuse_training_mode(module, example.inputs)
    notes = _frozen(module)
    inputs, outputs = _input_names(module, len(example.inputs)), _output_names(_run(module, example.inputs))
    trials = _trials(module, example)
    reasons = []
    for route, said in ((_legacy, ROUTE), (_through_export, ROUTE_EXPORT)):
        try:
            proto = route(module, example, inputs, outputs)
            for given, wanted, where in trials:
                compare(proto, wanted, given, where)
        except ConversionError as error:
            reasons.append(error.message)
            continue
        if reasons:
            notes.append(f"{ROUTE} failed ({reasons[0][:300]}); {said} was used.")
        return proto, said, notes
    raise ConversionError(f"{reasons[0]} The other way failed too: {reasons[1]}")


def _refuse_unlisted(module: torch.jit.ScriptModule) -> None:
    """A second look, at what torch has read: its graph has torch's own names of all operators."""
    if not hasattr(module, "forward"):
        raise ConversionError("The TorchScript file has no forward: there is nothing in it that computes.")
    graph = module.inlined_graph  # a copy that its nodes do not keep alive
    waiting: list[Any] = [graph]
    while waiting:
        for node in waiting.pop().nodes():
            kind = node.kind()
            listed = kind.removeprefix("aten::") in TORCH if kind.startswith("aten::") else kind in _KNOWN
            if not listed:
                raise ConversionError(
                    f"The TorchScript file has the operator {kind}, which is nothing that a model needs."
                )
            waiting.extend(node.blocks())


def _refuse_fused(module: torch.jit.ScriptModule) -> None:
    text = str(module.inlined_graph)
    for name in _FUSED:
        if name in text:
            raise ConversionError(
                f"The TorchScript file holds the fused operator {name}, which cannot be trained: it was "
                "traced without gradients, or scripted with attention's fast path. Call "
                "torch.backends.mha.set_fastpath_enabled(False) and trace it again, or send ONNX."
            )


def _frozen(module: torch.jit.ScriptModule) -> list[str]:
    if module.state_dict():
        return []
    return [
        "The TorchScript module is frozen: its parameters have lost their names, and BatchNorm is folded "
        "into the "
        "convolutions. Send the module as it was before torch.jit.freeze to keep both."
    ]


def _fitting(module: torch.jit.ScriptModule, examples: Sequence[Example]) -> Example:
    """The first example that the module runs with."""
    reasons = []
    for example in examples:
        try:
            _run(module, example.inputs)
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            reasons.append(f"{[tuple(x.shape) for x in example.inputs]}: {last_line(error)}")
            continue
        return example
    names = ", ".join(argument_names(module))
    raise ConversionError(
        "The TorchScript model runs with none of the shapes that the data could have: "
        + "; ".join(reasons[:4])
        + ". Check that the data belong to this model, and that it was traced with a batch size that "
        f"may change; or send input_specs for its arguments: {names}."
    )


def _run(module: torch.jit.ScriptModule, inputs: Sequence[Tensor]) -> Any:
    with torch.no_grad():
        return module(*inputs)


def _refuse_training_mode(module: torch.jit.ScriptModule, inputs: Sequence[Tensor]) -> None:
    """A trace made in training mode keeps Dropout and batch statistics, whatever eval() says."""
    again = "It was traced in training mode: call model.eval(), trace it again and send that."
    first, second = flat_tensors(_run(module, inputs)), flat_tensors(_run(module, inputs))
    if any(distance(a, b) > TOLERANCE for a, b in zip(first, second, strict=True)):
        raise ConversionError(
            f"The TorchScript model gives other outputs each time it runs on the same input. {again}"
        )
    try:
        alone = flat_tensors(_run(module, tuple(x[:1] if x.dim() else x for x in inputs)))
    except RuntimeError:
        return  # the comparison at another batch size will say what is wrong
    for a, b in zip(first, alone, strict=True):
        if a.dim() and a.shape[0] == inputs[0].shape[0] and distance(a[:1], b) > TOLERANCE:
            raise ConversionError(f"The outputs of a row depend on the other rows of its batch. {again}")


def _legacy(
    module: torch.jit.ScriptModule, example: Example, inputs: list[str], outputs: list[str]
) -> onnx.ModelProto:
    """The TorchScript-based exporter on the module as it is: no folding, so that names and BatchNorm stay."""
    register_symbolics(OPSET)
    return_tuples(module)
    stream: Any = io.BytesIO()
    axes = dict(zip(inputs, example.axes, strict=True)) | {name: {0: "batch"} for name in outputs}
    try:
        torch.onnx.export(
            module, tuple(example.inputs), stream, dynamo=False, opset_version=OPSET,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.EVAL, input_names=inputs, output_names=outputs,
            dynamic_axes=axes, )  # fmt: skip
    except Exception as error:  # the exporter has no common class of errors
        raise ConversionError(
            f"torch.onnx.export cannot convert the TorchScript file: {first_line(error)} "
            "Export the original model yourself: torch.onnx.export(model, example, 'model.onnx', "
            "dynamo=True)."
        ) from error
    proto = with_names(onnx.load_model_from_string(stream.getvalue()), dict(module.state_dict()))
    return without_sequences(proto)


def _through_export(
    module: torch.jit.ScriptModule, example: Example, inputs: list[str], outputs: list[str]
) -> onnx.ModelProto:
    """TorchScript -> torch.export program -> ONNX. The converter keeps the names of the state_dict."""
    try:
        from torch._export.converter import TS2EPConverter

        program = TS2EPConverter(module, tuple(example.inputs)).convert()
        exported = torch.onnx.export(
            program, dynamo=True, optimize=False, opset_version=OPSET_EXPORT, verbose=False,
            input_names=inputs, output_names=outputs,
        )  # fmt: skip
        assert exported is not None  # noqa: S101  # None is for the exporter that writes files
    except Exception as error:  # neither has a common class of errors
        while error.__cause__ is not None and isinstance(error.__cause__, Exception):
            error = error.__cause__
        raise ConversionError(f"TS2EPConverter: {first_line(error)[:300]}") from error
    return put_right(exported.model_proto)


def _input_names(module: torch.jit.ScriptModule, count: int) -> list[str]:
    found = argument_names(module)[:count]
    unique = len(set(found)) == count and not any(name.isdigit() for name in found)
    return found if unique else [f"input_{i}" for i in range(count)]


def _output_names(result: Any) -> list[str]:
    """The keys of a dict, the fields of a named tuple, else `output` and a number."""
    count = len(flat_tensors(result))
    names = list(result) if isinstance(result, dict) else list(getattr(result, "_fields", ()))
    if len(names) == count and all(isinstance(name, str) for name in names):
        return names
    return ["output"] if count == 1 else [f"output_{i}" for i in range(count)]


def _trials(module: torch.jit.ScriptModule, example: Example) -> list[_Trial]:
    """What the original gives at the example's batch size, at another, and where other sizes may vary too.

    Raises:
        ConversionError: it does not run at another batch size.
    """
    batch = example.batch
    trials = [(example.inputs, flat_tensors(_run(module, example.inputs)), f"at batch size {batch}")]
    other = random_inputs(example, batch=batch + 1, longer=False)
    try:
        wanted = flat_tensors(_run(module, other))
    except RuntimeError as error:
        raise ConversionError(
            f"The TorchScript model does not run at batch size {batch + 1}: {last_line(error)} "
            "It was traced with a fixed batch size; use x.flatten(1) or x.view(x.size(0), -1) and "
            "trace it again."
        ) from error
    trials.append((other, wanted, f"at batch size {batch + 1}"))
    longer = random_inputs(example, batch=batch + 1, longer=True)
    with contextlib.suppress(RuntimeError):  # sizes that may vary need not take every value
        shapes = [tuple(x.shape) for x in longer]
        trials.append((longer, flat_tensors(_run(module, longer)), f"with the shapes {shapes}"))
    return trials


def _answer(request: dict[str, Any]) -> tuple[onnx.ModelProto, str, list[str]]:
    return export(Path(request["model"]), request["shapes"], request.get("input_specs"))


if __name__ == "__main__":
    answer(_answer)
