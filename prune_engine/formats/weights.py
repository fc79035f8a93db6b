"""What each float constant of a graph is: a prunable weight, another trained parameter, a running statistic,
or a plain constant.

ONNX does not tell parameters from masks, tables and scalars, so the role comes from the place: the weight
operand of a convolution or a matrix product is prunable, behind whatever only moves its values.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from onnx import NodeProto, TensorProto

from prune_engine.formats.aliases import Source
from prune_engine.formats.contraction import group_count, input_axis
from prune_engine.formats.flow import Flow
from prune_engine.formats.graph import NONSENSE, Graph, node_name, wrong_values
from prune_engine.formats.operators.dtypes import FLOATS
from prune_engine.formats.quantised import Quantisation
from prune_engine.formats.weight_places import vector_places


@dataclass(frozen=True)
class PrunableWeight:
    """An initializer that is the weight operand of at least one node.

    Args:
        name: of the initializer (of the output, for the tensor of a Constant node).
        kind: "Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN" or "Embedding".
        output_axis: axis of the initializer that counts output channels, neurons, or rows of an embedding.
        nodes: names of the nodes that use it as their weight.
        input_axis: axis of the initializer that counts inputs, or features of an embedding; None where no
            axis does, or another one for each node.
        groups: of a convolution. Outputs, of a ConvTranspose inputs, are of one group after the other.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    output_axis: int
    nodes: tuple[str, ...]
    input_axis: int | None = None
    groups: int = 1


@dataclass
class Roles:
    """The roles of a graph's constants; what is in none of these is a plain constant.

    `quantised` holds the trained ones that the file keeps as integers, `refused` why other integers with a
    scale cannot be trained.
    """

    prunable: dict[str, PrunableWeight] = field(default_factory=dict)
    trained: set[str] = field(default_factory=set)
    statistics: set[str] = field(default_factory=set)
    quantised: dict[str, Quantisation] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def find_roles(graph: Graph) -> Roles:
    """Sorts the float constants of `graph` by the place where they are used."""
    return _Finder(graph).run()


class _Finder:
    """Follows the values through the graph, then looks at what each node takes."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.roles = Roles()
        self.flow = Flow(graph)

    def run(self) -> Roles:
        self.flow.run()
        statistics: Counter[str] = Counter()
        for node in self.flow.nodes:
            try:
                self._weights(node)
                self._vectors(node)
                self._arithmetic(node)
            except NONSENSE as error:
                raise wrong_values(node, error) from error
            if node.op_type == "BatchNormalization":
                statistics.update(self._names(node.input[3:5]))
        # What two layers share as statistics, or as statistics and as a scale (the legacy exporter merges
        # equal initializers), cannot follow both: it stays a constant.
        self.roles.trained -= set(statistics) - set(self.roles.prunable)
        single = {name for name, uses in statistics.items() if uses == 1 and self._uses(name) == 1}
        self.roles.statistics = single - self.roles.trained - set(self.flow.scales.known)
        self._without_refused()
        return self.roles

    def _without_refused(self) -> None:
        """Integers that no one scale turns into floats are constants after all."""
        scales = self.flow.scales
        for name in scales.refused:
            self.roles.prunable.pop(name, None)
        self.roles.trained -= set(scales.refused)
        self.roles.refused = dict(scales.refused)
        self.roles.quantised = {name: q for name, q in scales.known.items() if name in self.roles.trained}

    def _names(self, names: Iterable[str]) -> Iterator[str]:
        """The constants behind values that each are made of one."""
        for name in names:
            alias = self.flow.aliases.get(name)
            if alias is not None and len(alias.sources) == 1:
                yield alias.sources[0].name

    def _uses(self, name: str) -> int:
        return len(self.graph.consumers.get(name, ())) + sum(
            value.name == name for value in self.graph.outputs
        )

    def _weights(self, node: NodeProto) -> None:
        """Notes the weights that a node takes at their proper places."""
        for position, kind, axis in self.flow.weights_of(node):
            alias = self.flow.aliases.get(node.input[position])
            if alias is None:
                self.roles.trained |= self.flow.sources(node.input[position])
                continue
            output = axis(len(alias.shape))
            inputs = input_axis(node, position, kind, output, len(alias.shape))
            for source in alias.sources:
                if math.prod(self.graph.constants[source.name].dims) > 0:
                    self._prunable(node, kind, source, output, inputs)

    def _vectors(self, node: NodeProto) -> None:
        """Notes the biases, scales and shifts that a node takes at their proper places."""
        for position in vector_places(node):
            name = node.input[position] if position < len(node.input) else ""
            if name in self.flow.fixed or name in self.flow.aliases:
                alias = self.flow.aliases.get(name)
                own = {source.name for source in alias.sources} if alias else self.flow.sources(name)
                self.roles.trained |= own

    def _prunable(self, node: NodeProto, kind: str, source: Source, axis: int, inputs: int | None) -> None:
        """Adds a node to a weight; a constant that several nodes share has one entry."""
        behind = source.axes[axis] if 0 <= axis < len(source.axes) else None
        known = self.roles.prunable.get(source.name)
        summed = None if inputs is None or behind is None else source.axes[inputs]
        same = known is None or (known.input_axis, known.groups) == (summed, group_count(node))
        self.roles.trained.add(source.name)
        self.roles.prunable[source.name] = PrunableWeight(
            name=source.name,
            kind=known.kind if known else kind,
            shape=tuple(self.graph.constants[source.name].dims),
            output_axis=known.output_axis if known else (0 if behind is None else behind),
            nodes=tuple(dict.fromkeys((*(known.nodes if known else ()), node_name(node)))),
            input_axis=summed if same and summed != behind else None,
            groups=group_count(node),
        )

    def _arithmetic(self, node: NodeProto) -> None:
        """Biases and scales outside of their layer: one value a channel, next to something learned.

        Position tables, masks and the normalisation of the input stay constants.
        """
        if node.op_type not in ("Add", "Sub", "Mul", "Div") or len(node.input) != 2:
            return
        for name, other in (node.input, tuple(reversed(node.input))):
            alias = self.flow.aliases.get(name)
            if alias is None or other not in self.flow.learned:
                continue
            wide = [size for size in alias.shape if size != 1]
            if any(self.flow.is_mask(source.name) for source in alias.sources):
                continue
            if len(wide) == 1 or (not wide and alias.shape and self._is_bias(node, other)):
                self.roles.trained |= {source.name for source in alias.sources}

    def _is_bias(self, node: NodeProto, other: str) -> bool:
        producer = self.graph.producers.get(other)
        return (
            node.op_type == "Add"
            and producer is not None
            and producer.op_type in ("MatMul", "Conv", "Einsum")
        )


def is_float(tensor: TensorProto) -> bool:
    """Whether a tensor holds floating-point values that Prunery trains."""
    return tensor.data_type in FLOATS
