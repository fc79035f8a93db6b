"""The process that loads a `.pt2` archive and exports it, run with `python -m` by `process.py`.

Request: `{"model": path}`. The archive has been looked through by `pt2.scan_pt2`.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from prune_engine.errors import ConversionError
from prune_engine.formats.conversion.comparison import (
    TOLERANCE,
    answer,
    compare,
    distance,
    first_line,
    flat_tensors,
)
from prune_engine.formats.conversion.exporter_quirks import put_right

OPSET = 20
ROUTE = f"torch.onnx.export of a torch.export program, opset {OPSET}"
_TRAINING = {"dropout": 2, "batch_norm": 5, "alpha_dropout": 2, "feature_dropout": 2}
"""Where an operator says that it is training."""

_RUNNING_MEAN = 3  # batch_norm without one normalises by its input, trained or not


def export(path: Path) -> tuple[onnx.ModelProto, list[str]]:
    """The ONNX model of an archive, and warnings.

    Raises:
        ConversionError: with the reason.
    """
    program = _load(path)
    _refuse_training_mode(program)
    inputs = _example_inputs(program)
    wanted = _run(program, inputs)
    proto = _export(program, inputs, len(flat_tensors(wanted)))
    compare(proto, flat_tensors(wanted), inputs, f"at its own batch size ({_batch(inputs)})")
    other = _other_inputs(program, inputs)
    if other is None:
        return proto, [
            "The program was exported for fixed shapes. Training runs at other batch sizes where the "
            "graph allows "
            "it; the pruned model keeps the fixed ones. Name dynamic_shapes in torch.export.export to "
            "change that."
        ]
    try:
        wanted = _run(program, other)
    except ConversionError:
        return proto, []  # sizes that its range allows need not suit each other
    compare(proto, flat_tensors(wanted), other, f"at batch size {_batch(other)}")
    return proto, []


def _load(path: Path) -> ExportedProgram:
    _register_outputs(path)
    try:
        # The stream's name need not end in .pt2, and torch's own parts need not be read a second time.
        with path.open("rb") as stream:
            program = torch.export.load(stream)
    except Exception as error:  # torch raises whatever its parts raise
        raise ConversionError(
            f"torch.export.load (torch {torch.__version__}) refuses the file: {first_line(error)} If another "
            "version of torch saved it, load it there and send torch.onnx.export(program, dynamo=True, "
            "optimize=False).save('model.onnx')."
        ) from error
    program._guards_code = []  # Python source that `module()` would compile and run
    return program


def _register_outputs(path: Path) -> None:
    """Gives every type that the program returns, and whose library is not here, a dict in its place."""
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/models/model.json"))
        program = json.loads(archive.read(name))
    known = set(pytree.SERIALIZED_TYPE_TO_PYTHON_TYPE)
    for call in program["graph_module"]["module_call_graph"]:
        for field in ("in_spec", "out_spec"):
            text = (call.get("signature") or {}).get(field)
            for kind in _types(json.loads(text)) if text else ():
                if kind not in known:
                    known.add(kind)
                    _register(kind)


def _types(spec: Any) -> list[str]:
    if isinstance(spec, list):
        return [kind for part in spec for kind in _types(part)]
    if not isinstance(spec, dict):
        return []
    own = [spec["type"]] if isinstance(spec.get("type"), str) else []
    return own + _types(spec.get("children_spec"))


def _register(kind: str) -> None:
    standing_in = type(kind.rpartition(".")[2], (dict,), {})

    def unflatten(values: Any, keys: Any) -> Any:
        return standing_in(zip(keys or map(str, range(len(values := list(values)))), values, strict=False))

    pytree.register_pytree_node(
        standing_in,
        lambda value: (list(value.values()), list(value)),
        unflatten,
        serialized_type_name=kind,
        to_dumpable_context=list,
        from_dumpable_context=_keys,
        flatten_with_keys_fn=lambda value: (
            [(pytree.MappingKey(key), part) for key, part in value.items()],
            list(value),
        ),
    )


def _keys(context: Any) -> list[str]:
    """The names of an output's fields, as transformers and diffusers write them."""
    try:
        keys = json.loads(context) if isinstance(context, str) else context
    except ValueError:
        return []
    return [str(key) for key in keys] if isinstance(keys, list) else []


def _refuse_training_mode(program: ExportedProgram) -> None:
    for node in program.graph.nodes:
        name = getattr(node.target, "__name__", "").partition(".")[0]
        place = _TRAINING.get(name)
        if name == "batch_norm" and node.args[_RUNNING_MEAN] is None:
            continue
        if place is not None and len(node.args) > place and node.args[place] is True:
            raise ConversionError(
                f"The program was exported in training mode: {node.name} is {name} with training=True. "
                "Call model.eval(), export it again and send that."
            )


def _example_inputs(program: ExportedProgram) -> list[Tensor]:
    """The tensors that the program was exported with, in order; random ones where it was saved without."""
    if program.example_inputs is not None:
        flat = pytree.tree_leaves(program.example_inputs)
        odd = [value for value in flat if not isinstance(value, Tensor) and value is not None]
        if odd:
            raise ConversionError(
                f"The program takes {odd[0]!r} beside tensors. Export a module that takes tensors only."
            )
        return [value.contiguous() for value in flat if isinstance(value, Tensor)]
    return [
        _random(value, [_size(side, {}) for side in value.shape], None) for value in _placeholders(program)
    ]


def _placeholders(program: ExportedProgram) -> list[Any]:
    names = set(program.graph_signature.user_inputs)
    nodes = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    return [node.meta["val"] for node in nodes]


def _size(side: Any, values: dict[Any, int]) -> int:
    if isinstance(side, int):
        return side
    expression = side.node.expr
    return int(expression.subs(values)) if values else int(side.node.hint or 2)


def _random(like: Any, shape: Sequence[int], example: Tensor | None) -> Tensor:
    """Values for an input: normal ones, or for integers such as the example has."""
    generator = torch.Generator().manual_seed(sum(shape))
    if like.dtype.is_floating_point:
        return torch.randn(list(shape), generator=generator).to(like.dtype)
    if example is None or example.numel() == 0:
        return torch.zeros(list(shape), dtype=like.dtype)
    picked = torch.randint(0, example.numel(), list(shape), generator=generator)
    return example.reshape(-1)[picked]


def _other_inputs(program: ExportedProgram, inputs: Sequence[Tensor]) -> list[Tensor] | None:
    """Inputs of another batch size, where the program takes one; None where every size is fixed."""
    values: dict[Any, int] = {}
    fakes = _placeholders(program)
    if len(fakes) != len(inputs):
        return None
    batch = next((fake.shape[0] for fake in fakes if fake.dim() and not isinstance(fake.shape[0], int)), None)
    for fake, example in zip(fakes, inputs, strict=True):
        for side, size in zip(fake.shape, example.shape, strict=True):
            if not isinstance(side, int) and side.node.expr.is_Symbol:
                values[side.node.expr] = size
    if not values:
        return None
    chosen = batch.node.expr if batch is not None and batch.node.expr in values else next(iter(values))
    values[chosen] = _another(values[chosen], program.range_constraints.get(chosen))
    return [
        _random(example, [_size(side, values) for side in fake.shape], example)
        for fake, example in zip(fakes, inputs, strict=True)
    ]


def _another(size: int, allowed: Any) -> int:
    low, high = (int(allowed.lower), allowed.upper) if allowed is not None else (1, size + 1)
    candidates = [size + 1, size + 2, size - 1, low]
    return next((c for c in candidates if c >= max(low, 1) and c != size and not c > high), size)


def _run(program: ExportedProgram, inputs: Sequence[Tensor]) -> Any:
    spec = program.call_spec.in_spec
    try:
        args, kwargs = pytree.tree_unflatten(_with_nones(program, inputs), spec)
        with torch.no_grad():
            first = program.module()(*args, **kwargs)
            again = program.module()(*args, **kwargs)
    except Exception as error:  # torch raises whatever its parts raise
        raise ConversionError(
            f"The program does not run at batch size {_batch(inputs)}: {first_line(error)}"
        ) from error
    if any(distance(a, b) > TOLERANCE for a, b in zip(flat_tensors(first), flat_tensors(again), strict=True)):
        raise ConversionError(
            "The program gives other outputs each time it runs on the same input. Call model.eval() and "
            "export "
            "it again."
        )
    return first


def _with_nones(program: ExportedProgram, inputs: Sequence[Tensor]) -> list[Tensor | None]:
    """The leaves that the program was exported with: the inputs, and None where one was left out."""
    if program.example_inputs is None:
        return list(inputs)
    given = iter(inputs)
    flat = pytree.tree_leaves(program.example_inputs)
    return [None if value is None else next(given) for value in flat]


def _batch(inputs: Sequence[Tensor]) -> int:
    return next((int(x.shape[0]) for x in inputs if x.dim()), 1)


def _export(program: ExportedProgram, inputs: Sequence[Tensor], count: int) -> onnx.ModelProto:
    names = _output_names(program, count)
    try:
        exported = torch.onnx.export(
            program, dynamo=True, optimize=False, opset_version=OPSET, verbose=False, output_names=names
        )
        assert exported is not None  # noqa: S101  # None is for the exporter that writes files
        proto = put_right(exported.model_proto)
    except Exception as error:  # the exporter has no common class of errors
        raise ConversionError(
            f"torch.onnx.export cannot convert the program: {_cause(error)} Export it in your own "
            "program, where "
            "a custom_translation_table can say what the operator is."
        ) from error
    if len(proto.graph.input) != len(inputs):
        raise ConversionError(
            f"The export has {len(proto.graph.input)} inputs, the program {len(inputs)}. Send an ONNX export."
        )
    return proto


def _cause(error: BaseException) -> str:
    """The exporter wraps the reason in its own errors, with a page of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


def _output_names(program: ExportedProgram, count: int) -> list[str] | None:
    """Keys where the program returns a dict or a library's output class, else `output` and a number."""
    spec = program.call_spec.out_spec
    taken = {*program.graph_signature.user_inputs, *program.state_dict}
    names: list[str] = []
    if spec is not None:
        whole = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
        for keys, _ in pytree.tree_flatten_with_path(whole)[0]:
            parts = [str(getattr(key, "key", getattr(key, "idx", key))) for key in keys]
            names.append("_".join(parts) if any(not part.isdigit() for part in parts) else "")
    if len(names) != count:
        return None
    if not any(names):
        names = ["output"] if count == 1 else [f"output_{index}" for index in range(count)]
    usable = all(names) and len(set(names)) == count and not taken & set(names)
    return names if usable else None


def _answer(request: dict[str, Any]) -> tuple[onnx.ModelProto, str, list[str]]:
    proto, notes = export(Path(request["model"]))
    return proto, ROUTE, notes


if __name__ == "__main__":
    answer(_answer)
