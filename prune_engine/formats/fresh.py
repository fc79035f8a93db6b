"""Fresh values for everything that is trained, as if the network had just been built.

Weights are normal with mean 0: variance 2 / fan-in where an activation of the ReLU kind follows (He et al.
2015, arXiv 1502.01852, equation 10), else 2 / (fan-in + fan-out) (Glorot and Bengio 2010, equation 12);
embeddings have standard deviation 0.02 (as BERT and GPT-2). Biases and shifts are 0, scales 1, PReLU slopes
0.25 (He et al. 2015), running means 0 and variances 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, helper

from prune_engine.errors import SpecError
from prune_engine.formats.graph import Graph, node_name
from prune_engine.formats.reading import read_graph
from prune_engine.formats.unprunable import not_prunable
from prune_engine.formats.weights import PrunableWeight, Roles, find_roles

RELU_LIKE = frozenset(
    (
        *("Relu", "LeakyRelu", "PRelu", "ThresholdedRelu", "Clip", "Elu", "Celu", "Selu", "Softplus", "Mish"),
        *("Erf", "Gelu", "FastGelu", "BiasGelu", "QuickGelu", "Swish", "HardSwish"),
    )
)
"""Erf and Softplus stand for GELU and Mish as exporters write them out."""

_PASSED = frozenset(
    (
        *("BatchNormalization", "InstanceNormalization", "GroupNormalization", "LayerNormalization"),
        *("Add", "Sum", "Div", "MaxPool", "AveragePool", "GlobalAveragePool", "Dropout", "Identity"),
        *("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Concat", "Cast", "Pad"),
    )
)
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_CONSTANT = {"bias": 0.0, "normalisation shift": 0.0, "normalisation scale": 1.0, "scale": 1.0, "slope": 0.25}
"""By what `not_prunable` calls them."""

_FARTHEST = 64
EMBEDDING_DEVIATION = 0.02


@dataclass(frozen=True)
class FreshValues:
    """Values to start from by ONNX name, float32; `kept` names what is trained and has no known start."""

    values: dict[str, np.ndarray]
    kept: tuple[str, ...]


def fresh_values(proto: onnx.ModelProto, seed: int) -> FreshValues:
    """Draw a start for every trained constant and running statistic of a graph.

    Args:
        proto: the model; only its graph and the shapes of its constants matter.
        seed: of the draws; the same seed gives the same values.

    Raises:
        SpecError: weights are kept as integers; their scales would not fit.
        ModelError: the graph is damaged.
    """
    graph = read_graph(proto)
    roles = find_roles(graph)
    if roles.quantised:
        raise SpecError(
            f"init: {len(roles.quantised)} weights, such as {next(iter(roles.quantised))!r}, are kept as "
            "integers, with scales that belong to the values they came with; send the float model to start "
            "from fresh weights",
            param="init",
        )
    random = np.random.default_rng(seed)
    values = {name: _drawn(weight, graph, random) for name, weight in roles.prunable.items()}
    reasons = {name: reason for name, _, reason in not_prunable(graph, roles)}
    others = sorted(roles.trained - set(values))
    for name in others:
        if reasons.get(name) in _CONSTANT:
            shape = tuple(graph.constants[name].dims)
            values[name] = np.full(shape, _CONSTANT[reasons[name]], np.float32)
    kept = tuple(name for name in others if name not in values)
    return FreshValues({**values, **_statistics(graph, roles)}, kept)


def _drawn(weight: PrunableWeight, graph: Graph, random: np.random.Generator) -> np.ndarray:
    if weight.kind == "Embedding":
        deviation = EMBEDDING_DEVIATION
    else:
        users = [node for node in graph.every_node if node_name(node) in weight.nodes]
        fan_in, fan_out = fans(weight, users)
        relu = any(leads_to_relu(graph, node) for node in users) and weight.kind not in _GATES
        deviation = math.sqrt(2.0 / fan_in if relu else 2.0 / (fan_in + fan_out))
    return np.asarray(random.standard_normal(weight.shape, np.float32) * np.float32(deviation))


def fans(weight: PrunableWeight, users: list[NodeProto]) -> tuple[float, float]:
    """How many inputs an output of the layer sums over, and how many outputs an input goes to."""
    shape, count, axis = weight.shape, math.prod(weight.shape), weight.output_axis
    if len(shape) < 2:
        return float(max(count, 1)), 1.0
    if weight.kind in _GATES:
        return float(shape[-1]), shape[-2] / _GATES[weight.kind]
    if weight.kind in ("MatMul", "Gemm"):
        other = len(shape) - 2 if axis == len(shape) - 1 else len(shape) - 1
        return float(shape[other]), float(shape[axis])
    fan_in, fan_out = count / shape[axis], count / shape[1 - axis] if axis < 2 else float(shape[axis])
    if weight.kind == "ConvTranspose":  # an output place sees only every stride-th place of the kernel
        for node in users[:1]:
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            fan_in /= attributes.get("group", 1) * math.prod(attributes.get("strides", ()))
    return max(fan_in, 1.0), max(fan_out, 1.0)


def leads_to_relu(graph: Graph, node: NodeProto) -> bool:
    """Whether an activation of the ReLU kind comes next, behind additions, normalisation and pooling."""
    seen: set[str] = set()
    waiting = list(node.output)
    while waiting and len(seen) < _FARTHEST:
        value = waiting.pop(0)
        if value in seen or not value:
            continue
        seen.add(value)
        for user in _users(graph, value):
            if user.op_type in RELU_LIKE or _is_gated_by_itself(graph, user, value):
                return True
            if user.op_type in _PASSED:
                waiting += user.output
    return False


def _users(graph: Graph, value: str) -> Iterator[NodeProto]:
    for user, _ in graph.consumers.get(value, ()):
        yield user


def _is_gated_by_itself(graph: Graph, user: NodeProto, value: str) -> bool:
    """Whether `user` is the sigmoid of SiLU or HardSwish written out: `x * sigmoid(x)`."""
    if user.op_type not in ("Sigmoid", "HardSigmoid"):
        return False
    return any(
        product.op_type == "Mul" and value in product.input for product in _users(graph, user.output[0])
    )


def _statistics(graph: Graph, roles: Roles) -> dict[str, np.ndarray]:
    found = {}
    for node in graph.every_node:
        if node.op_type == "BatchNormalization":
            for position, start in ((3, 0.0), (4, 1.0)):
                name = node.input[position]
                if name in roles.statistics:
                    found[name] = np.full(tuple(graph.constants[name].dims), start, np.float32)
    return found
