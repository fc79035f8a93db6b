"""Refuses what cannot be computed, all of it in one error."""

from __future__ import annotations

from collections import Counter

from prune_engine.errors import UnsupportedOperatorError
from prune_engine.formats.graph import Graph, all_nodes, constant_tensor, domain_of, node_name
from prune_engine.formats.operators import find


def refuse_unsupported(graph: Graph) -> None:
    """Raises UnsupportedOperatorError with every operator that the table lacks, not only the first."""
    missing: Counter[str] = Counter()
    example: dict[str, str] = {}
    for node in all_nodes(graph.nodes):
        domain = domain_of(node)
        opset = graph.opsets.get(domain, 1)
        if domain == "" and (node.op_type == "If" or constant_tensor(node) is not None):
            continue
        if find(domain, node.op_type, opset) is None:
            label = f"{node.op_type} (domain {domain or 'ai.onnx'}, opset {opset})"
            missing[label] += 1
            example.setdefault(label, node_name(node))
    if missing:
        listed = "; ".join(
            f"{label} at {example[label]}" + (f" and {count - 1} more" if count > 1 else "")
            for label, count in missing.items()
        )
        raise UnsupportedOperatorError(
            f"Prunery cannot train these operators: {listed}. "
            "Export the model without them, in opset 9 to 21 and with the standard ONNX operators."
        )
