"""How many nodes a model has when its functions are unfolded, and how deep, told without unfolding them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx
from onnx import NodeProto

from prune_engine.errors import ModelError, ModelTooLargeError
from prune_engine.formats.functions import Key, call_key, functions_of
from prune_engine.formats.graph import all_graphs, graphs_in, node_name

MOST_NODES = 2**18
"""Nodes of a model, those of functions at every place where they are called."""

DEEPEST_CALLS = 64
"""Functions that call functions."""

_DEEPEST_GRAPHS = 24  # subgraphs in subgraphs
_MOST_ATTRIBUTES = 256  # of one node
_MOST_DIMENSIONS = 64  # of a value


@dataclass(frozen=True)
class _Size:
    nodes: int
    depth: int


def check_counts(proto: onnx.ModelProto) -> None:
    """Refuse what would take too long to unfold, or more of the stack than there is.

    Raises:
        ModelTooLargeError: too many nodes, attributes or dimensions, or nested too deep.
        ModelError: a function calls itself.
    """
    functions = functions_of(proto)
    found: dict[Key, _Size] = {}
    waiting = list(functions)
    calling: set[Key] = set()
    while waiting:  # without recursion, for the depth is what is not known yet
        key = waiting[-1]
        if key in found:
            waiting.pop()
            continue
        called = {k for k in _calls(functions[key].node, 0) if k in functions}
        missing = called - found.keys()
        if missing & calling or key in called:
            raise ModelError(f"The local function {functions[key].name!r} calls itself. The file is damaged.")
        if missing:
            calling.add(key)
            waiting += missing
            continue
        found[key] = _size(functions[key].node, found)
        if found[key].nodes > MOST_NODES or found[key].depth > DEEPEST_CALLS:
            break
        calling.discard(key)
        waiting.pop()
    sizes = (_Size(0, 0), *found.values())
    _refuse(max(size.depth for size in sizes), max(size.nodes for size in sizes))
    _refuse(0, _size(proto.graph.node, found).nodes)
    for graph in all_graphs(proto.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            if len(value.type.tensor_type.shape.dim) > _MOST_DIMENSIONS:
                raise ModelTooLargeError(
                    f"The value {value.name!r} has {len(value.type.tensor_type.shape.dim):,} dimensions; at "
                    f"most {_MOST_DIMENSIONS} are read."
                )


def _refuse(depth: int, nodes: int) -> None:
    if depth > DEEPEST_CALLS:
        raise ModelTooLargeError(
            f"The model's functions call each other more than {DEEPEST_CALLS} levels deep. Export it without."
        )
    if nodes > MOST_NODES:
        raise ModelTooLargeError(
            f"The graph has {nodes:,} nodes when its functions are unfolded; at most {MOST_NODES:,} are read."
        )


def _too_deep(node: NodeProto) -> ModelTooLargeError:
    return ModelTooLargeError(
        f"{node_name(node)} lies in {_DEEPEST_GRAPHS} subgraphs, one in the other; that is too deep."
    )


def _calls(nodes: Iterable[NodeProto], depth: int) -> Iterable[Key]:
    for node in nodes:
        yield call_key(node)
        for body in graphs_in(node):
            if depth >= _DEEPEST_GRAPHS:
                raise _too_deep(node)
            yield from _calls(body.node, depth + 1)


def _size(nodes: Iterable[NodeProto], functions: Mapping[Key, _Size], inside: int = 0) -> _Size:
    """Of nodes and all that they hold and call."""
    count = depth = 0
    for node in nodes:
        if len(node.attribute) > _MOST_ATTRIBUTES:
            raise ModelTooLargeError(
                f"{node_name(node)} has {len(node.attribute):,} attributes; at most {_MOST_ATTRIBUTES} are "
                "read."
            )
        called = functions.get(call_key(node), _Size(0, 0))
        count += 1 + called.nodes
        depth = max(depth, called.depth)
        for body in graphs_in(node):
            if inside >= _DEEPEST_GRAPHS:
                raise _too_deep(node)
            inner = _size(body.node, functions, inside + 1)
            count += inner.nodes
            depth = max(depth, inner.depth)
    return _Size(count, depth + 1)
