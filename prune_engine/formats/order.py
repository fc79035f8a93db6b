"""The order in which the nodes of a graph can be computed."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Set as AbstractSet

import onnx
from onnx import NodeProto

from prune_engine.errors import ModelError
from prune_engine.formats.graph import graphs_in, node_name


def computing_order(graph: onnx.GraphProto, known: AbstractSet[str]) -> list[int]:
    """Indices of the nodes, each after those whose results it reads; else the file's own order is kept.

    `known` are the names that no node has to compute: inputs, initializers, values of an outer graph.

    Raises:
        ModelError: a value is used but never defined, defined twice, or depends on itself.
    """
    stored = Counter(tensor.name for tensor in graph.initializer)
    for name, count in stored.items():
        if count > 1:
            raise ModelError(f"The graph defines the initializer {name!r} twice. The file is damaged.")
    own = {value.name for value in graph.input} | set(stored)
    producer: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        for name in node.output:
            if name and (name in producer or name in own):
                raise ModelError(f"The graph defines the value {name!r} twice. The file is damaged.")
            if name:
                producer[name] = index
    waiting: list[int] = []
    users: dict[int, list[int]] = defaultdict(list)
    for index, node in enumerate(graph.node):
        needs = {name for name in node.input if name} | captured_values(node)
        for name in needs - known:
            if name not in producer:
                raise ModelError(
                    f"{node_name(node)} reads {name!r}, which is no input, no initializer and no "
                    "node's output. "
                    "The file is incomplete: its weights may be missing. Export it again."
                )
        before = {producer[name] for name in needs - known}
        waiting.append(len(before))
        for other in before:
            users[other].append(index)
    for value in graph.output:
        if value.name not in producer and value.name not in known:
            raise ModelError(f"Nothing computes the graph output {value.name!r}. The file is incomplete.")
    ready = [index for index, count in enumerate(waiting) if count == 0]
    heapq.heapify(ready)
    order = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for user in users[index]:
            waiting[user] -= 1
            if waiting[user] == 0:
                heapq.heappush(ready, user)
    if len(order) < len(graph.node):
        stuck = next(node for node, count in zip(graph.node, waiting, strict=True) if count)
        raise ModelError(
            f"The graph has a cycle: {node_name(stuck)} needs its own output. The file is damaged."
        )
    return order


def captured_values(node: NodeProto) -> set[str]:
    """Values of the outer graph that a node's subgraphs read; empty for a node without any."""
    names: set[str] = set()
    for body in graphs_in(node):
        own = {v.name for v in body.input} | {t.name for t in body.initializer}
        own |= {name for inner in body.node for name in inner.output}
        for inner in body.node:
            names |= ({name for name in inner.input if name} | captured_values(inner)) - own
        names |= {value.name for value in body.output} - own
    return names
