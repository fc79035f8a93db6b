"""ONNX graph -> `OnnxModule`: what is refused, what is trained, and the plan that computes the rest."""

from __future__ import annotations

import onnx

from prune_engine.errors import ModelError, NoPrunableWeightsError
from prune_engine.formats.batch import free_batch
from prune_engine.formats.compiler import Compiler
from prune_engine.formats.fitting import require_fitting_weights
from prune_engine.formats.fusing import fused
from prune_engine.formats.graph import Graph
from prune_engine.formats.module import OnnxModule
from prune_engine.formats.reading import read_graph
from prune_engine.formats.support import check_opset
from prune_engine.formats.tensors import to_numpy
from prune_engine.formats.weights import Roles, find_roles


def import_onnx(proto: onnx.ModelProto) -> OnnxModule:
    """A trainable module that computes what the graph computes.

    Raises:
        UnsupportedOperatorError: with every operator that the table lacks, not only the first.
        NoPrunableWeightsError: no float constant is a weight operand.
        ModelError: the graph is damaged.
    """
    try:
        return _import(proto)
    except UnicodeDecodeError as error:
        raise ModelError(
            "A name in the ONNX graph is not text. The file is damaged; send it again."
        ) from error


def _import(proto: onnx.ModelProto) -> OnnxModule:
    graph = read_graph(proto)
    check_opset(graph)
    roles = find_roles(graph)
    if not roles.prunable:
        Compiler(graph, roles).run()  # an operator that is not known may be what has the weights
        raise NoPrunableWeightsError(
            "The graph has no weight that could be pruned: no convolution, matrix product or embedding takes "
            "a float initializer, or integers with a scale." + _quantised_reasons(roles)
        )
    require_fitting_weights(graph)
    return _module(graph, roles)


def _quantised_reasons(roles: Roles) -> str:
    if not roles.refused:
        return " If its weights are packed or quantised on the way, send the float model it was made from."
    name, reason = next(iter(roles.refused.items()))
    more = f", and {len(roles.refused) - 1} more" if len(roles.refused) > 1 else ""
    return f" {name!r} is quantised, but {reason}{more}: send the float model that this one was made from."


def compile_graph(proto: onnx.ModelProto) -> OnnxModule:
    """A module without parameters: every initializer stays a constant. Raises what `import_onnx` raises."""
    graph = read_graph(proto)
    check_opset(graph)
    return _module(graph, Roles())


def _module(graph: Graph, roles: Roles) -> OnnxModule:
    plan = Compiler(fused(graph), roles).run()
    plan = free_batch(plan, [graph.shapes.get(value.name, ()) for value in graph.inputs])
    return OnnxModule(
        plan,
        tuple(roles.prunable.values()),
        tuple(value.name for value in graph.inputs),
        tuple(value.name for value in graph.outputs),
        {name: to_numpy(graph.constants[name]) for name in roles.statistics if name in plan.buffers},
    )
