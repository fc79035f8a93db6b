"""Refuses what cannot be computed, all of it in one error that says the way round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from onnx import NodeProto, ValueInfoProto

from prune_engine.errors import UnsupportedOperatorError
from prune_engine.formats.graph import Graph, domain_of
from prune_engine.formats.operators import Node, NotSupportedError, rows
from prune_engine.formats.operators.dtypes import compute_dtype
from prune_engine.formats.operators.table import NEWEST_OPSET, OLDEST_OPSET

STRINGS = "Turn text into numbers before the model: export the part behind the tokenizer or the encoder."
_ANY = "Export the model without them, with the standard ONNX operators."
_NAMES_SHOWN = 12
_DOMAINS = {
    "com.microsoft": "Send the file as it was before onnxruntime optimised it.",
    "com.microsoft.nchwc": "Send the file as it was before onnxruntime optimised it for this processor; with "
    "graph_optimization_level=ORT_ENABLE_EXTENDED it writes nothing of the kind.",
    "aten": "Export with torch.onnx.export(..., dynamo=True), which writes no ATen operators.",
    "ai.onnx.ml": "Send only the neural network: what is around it has no weights to prune.",
    "ai.onnx.preview.training": "Send the graph for inference, without its training step.",
}
_OPERATORS = {
    **dict.fromkeys(("StringNormalizer", "StringConcat", "StringSplit", "RegexFullMatch"), STRINGS),
    "ZipMap": "Convert the pipeline with options={'zipmap': False}: its outputs are tensors then.",
}


@dataclass(frozen=True)
class Problem:
    """Something that cannot be computed: what, at which node or value, and what to do instead."""

    what: str
    where: str
    instead: str


def check_opset(graph: Graph) -> None:
    """Refuses versions of ONNX that the table does not know.

    Raises:
        UnsupportedOperatorError: the opset of ai.onnx is older or newer than those of the table.
    """
    opset = graph.opsets[""]
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise UnsupportedOperatorError(
            f"The model is of opset {opset}; Prunery knows the opsets {OLDEST_OPSET} to {NEWEST_OPSET}. "
            f"Convert it: onnx.version_converter.convert_version(model, {NEWEST_OPSET})."
        )


def refuse(problems: Sequence[Problem]) -> None:
    """Raises UnsupportedOperatorError with all of `problems`, if there are any."""
    if not problems:
        return
    places: dict[str, dict[str, None]] = {}
    for problem in problems:
        places.setdefault(problem.what, {})[problem.where] = None
    listed = "; ".join(f"{what} at {_some(list(where))}" for what, where in places.items())
    ways = " ".join(dict.fromkeys(problem.instead or _ANY for problem in problems))
    raise UnsupportedOperatorError(f"Prunery cannot train what this graph computes: {listed}. {ways}")


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(str(name) for name in names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def operator_label(graph: Graph, node: NodeProto, option: str = "") -> str:
    """An operator in a message, with the option that is not supported."""
    label = f"{node.op_type} (domain {domain_of(node) or 'ai.onnx'}, opset {graph.opset(node)})"
    return f"{label} with {option}" if option else label


def way_round(node: Node) -> str:
    """What to do about an operator that the table lacks."""
    if node.domain in ("", "ai.onnx.ml") and node.operator in _OPERATORS:
        return _OPERATORS[node.operator]
    if node.domain in _DOMAINS:
        return _DOMAINS[node.domain]
    if node.domain == "":
        if node.operator == "Constant":
            return STRINGS
        known = [row for row in rows() if row.domain == "" and row.name == node.operator]
        if known:
            target = known[0].since if node.opset < known[0].since else known[-1].until
            return (
                f"{node.operator} is known from opset {known[0].since} to {known[-1].until}: "
                f"onnx.version_converter.convert_version(model, {target})."
            )
        return _ANY
    return (
        "Export without custom operators, or write them as local functions of the model "
        "(onnx.helper.make_function), which are unfolded."
    )


def input_type(value: ValueInfoProto) -> torch.dtype:
    """The type in which a graph input is computed.

    Raises:
        NotSupportedError: it is no tensor, or one of strings.
    """
    kind = value.type.WhichOneof("value") or "tensor_type"
    if kind != "tensor_type":
        raise NotSupportedError(
            f"a {kind.removesuffix('_type').replace('_', ' ')} instead of a tensor",
            "Export the model with tensors as its inputs.",
        )
    return compute_dtype(value.type.tensor_type.elem_type)
