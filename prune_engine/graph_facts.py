"""What an inspection reads off the graph itself: operators and their support, weights, other constants."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence

import numpy as np
import onnx
import torch

from prune_engine.errors import ModelError
from prune_engine.formats import OnnxModule, PrunableWeight
from prune_engine.formats.graph import Graph, domain_of, node_name
from prune_engine.formats.operators import find
from prune_engine.formats.reading import read_graph
from prune_engine.formats.tensors import dtype_name, to_numpy
from prune_engine.formats.unprunable import not_prunable
from prune_engine.formats.weights import Roles, find_roles
from prune_engine.inspection import KeptInfo, OperatorSupport, WeightInfo

CONTROL_FLOW = ("If", "Loop", "Scan")
_SHOWN = 5


def inspected_graph(proto: onnx.ModelProto) -> Graph:
    """The graph as the importer walks it. Raises ModelError where it is damaged."""
    return read_graph(proto)


def operator_support(graph: Graph) -> list[OperatorSupport]:
    """Every operator of the graph and its subgraphs, the unsupported ones first, then by their number."""
    counts: Counter[tuple[str, str]] = Counter()
    unsupported: dict[tuple[str, str], list[str]] = defaultdict(list)
    versions: dict[tuple[str, str], int] = {}
    for node in graph.every_node:
        key = (domain_of(node), node.op_type)
        counts[key] += 1
        versions.setdefault(key, graph.opset(node))
        if not _known(key, graph.opset(node)):
            unsupported[key].append(node_name(node))
    rows = [
        OperatorSupport(
            name=name,
            domain=domain or "ai.onnx",
            opset=versions[domain, name],
            count=count,
            supported=(domain, name) not in unsupported,
            reason=_reason(domain, name, versions[domain, name]) if (domain, name) in unsupported else None,
            nodes=tuple(unsupported[(domain, name)][:_SHOWN]) if (domain, name) in unsupported else (),
        )
        for (domain, name), count in counts.items()
    ]
    return sorted(rows, key=lambda row: (row.supported, -row.count, row.name))


def _known(key: tuple[str, str], opset: int) -> bool:
    domain, name = key
    if domain == "" and name in CONTROL_FLOW:
        return True
    return find(domain, name, opset) is not None


def _reason(domain: str, name: str, opset: int) -> str:
    others = [version for version in range(1, 40) if find(domain, name, version) is not None]
    if others:
        return f"not in version {opset} of {domain or 'ai.onnx'}; export with {others[0]} to {others[-1]}"
    return "Prunery does not know this operator; export the model without it"


def prunable_weights(graph: Graph, module: OnnxModule | None) -> tuple[PrunableWeight, ...]:
    """The weights that can be pruned, in the graph's order."""
    return module.prunable if module is not None else tuple(_roles(graph).prunable.values())


def weight_rows(
    weights: Sequence[PrunableWeight], graph: Graph, module: OnnxModule | None
) -> list[WeightInfo]:
    """The weights that will be pruned, one row each."""
    total = sum(math.prod(weight.shape) for weight in weights)
    return [_weight(weight, graph, module, total) for weight in weights]


def _weight(weight: PrunableWeight, graph: Graph, module: OnnxModule | None, total: int) -> WeightInfo:
    count = math.prod(weight.shape)
    if module is not None:
        zeros = count - int(torch.count_nonzero(module.weights[weight.name].detach()))
    else:
        zeros = count - int(np.count_nonzero(to_numpy(graph.constants[weight.name])))
    return WeightInfo(
        name=weight.name,
        kind=weight.kind,
        shape=weight.shape,
        dtype=dtype_name(graph.constants[weight.name].data_type),
        count=count,
        share=count / total,
        outputs=weight.shape[weight.output_axis] if weight.shape else 1,
        nodes=weight.nodes,
        zeros=zeros,
    )


def kept_constants(graph: Graph, prunable: Collection[str]) -> list[KeptInfo]:
    """The constants that pruning does not touch, the largest first, and why; integers if they are scaled."""
    reasons = {name: reason for name, _, reason in not_prunable(graph, _roles(graph))}
    rows = [
        KeptInfo(
            name=name,
            shape=tuple(tensor.dims),
            dtype=dtype_name(tensor.data_type),
            count=math.prod(tensor.dims),
            reason=reasons[name],
        )
        for name, tensor in graph.constants.items()
        if name not in prunable and name in reasons
    ]
    return sorted(rows, key=lambda row: -row.count)


def trained_parameters(graph: Graph, module: OnnxModule | None) -> int:
    """Elements of every constant that would be trained, prunable or not."""
    if module is not None:
        return sum(weight.numel() for weight in module.weights.values())
    return sum(math.prod(graph.constants[name].dims) for name in _roles(graph).trained)


def _roles(graph: Graph) -> Roles:
    try:
        return find_roles(graph)
    except (ModelError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError):
        return Roles()  # what is wrong with the graph is among the problems
