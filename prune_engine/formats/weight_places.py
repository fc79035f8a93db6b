"""At which inputs of its nodes a graph has weights, biases, scales and shifts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from onnx import NodeProto, helper

from prune_engine.formats.graph import ONNX_DOMAINS

_NORMS = (
    "BatchNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "GroupNormalization",
    "RMSNormalization",
    "SimplifiedLayerNormalization",  # of onnxruntime, which lists it among ONNX's own
)
_FUSED_VECTORS = {
    **dict.fromkeys(("FusedConv", "NhwcConv", "NhwcFusedConv", "FusedGemm", "Attention"), (2,)),
    **dict.fromkeys(("GemmFastGelu", "CausalConvWithState"), (2,)),
    **dict.fromkeys(("ConvTransposeWithDynamicPads", "MultiHeadAttention"), (3,)),
    **dict.fromkeys(("BiasGelu", "FastGelu", "BiasAdd", "BiasSplitGelu", "BiasDropout"), (1,)),
    **dict.fromkeys(("GatedRMSNorm", "BitmaskBiasDropout"), (1,)),
    "QGemm": (6,),
    "GroupNorm": (1, 2),
    "SkipGroupNorm": (1, 2, 4),
    "SkipLayerNormalization": (2, 3, 4),
    "SkipSimplifiedLayerNormalization": (2, 3),
    "EmbedLayerNormalization": (5, 6),
}


def weight_places(
    node: NodeProto, rank_of: Callable[[str], int | None]
) -> Iterator[tuple[int, str, Callable[[int], int]]]:
    """The positions of weight operands, with the kind and the output axis as a function of the rank."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.domain not in ONNX_DOMAINS:
        yield from _fused_places(node, attributes)
    elif node.op_type in ("Conv", "CausalConvWithState"):
        yield 1, "Conv", lambda rank: 0
    elif node.op_type in ("LSTM", "GRU", "RNN"):  # [directions, gates * hidden, inputs]
        yield 1, node.op_type, lambda rank: 1
        yield 2, node.op_type, lambda rank: 1
    elif node.op_type == "ConvTranspose":
        yield 1, "ConvTranspose", lambda rank: 1
    elif node.op_type == "Gemm":
        yield 1, "Gemm", lambda rank: 0 if attributes.get("transB", 0) else 1
        yield 0, "Gemm", lambda rank: 1 if attributes.get("transA", 0) else 0
    elif node.op_type == "MatMul":
        yield 1, "MatMul", lambda rank: rank - 1
        yield 0, "MatMul", lambda rank: max(rank - 2, 0)
    elif node.op_type == "Gather" and attributes.get("axis", 0) == 0 and _first_rank(node, rank_of) == 2:
        yield 0, "Embedding", lambda rank: 0
    elif node.op_type == "Einsum" and len(node.input) == 2:
        terms = attributes["equation"].decode().replace(" ", "").split("->")
        if len(terms) == 2:
            operands = terms[0].split(",")
            for position, labels in enumerate(operands):
                if "." in labels:
                    continue  # which axes these are depends on the rank
                free = [i for i, c in enumerate(labels) if c in terms[1] and c not in operands[1 - position]]
                if any(c not in terms[1] for c in labels) and free:
                    yield position, "MatMul", partial(_always, free[-1])


def _first_rank(node: NodeProto, rank_of: Callable[[str], int | None]) -> int | None:
    return rank_of(node.input[0]) if node.input else None


def _always(axis: int, _rank: int) -> int:
    return axis


def _fused_places(
    node: NodeProto, attributes: Mapping[str, Any]
) -> Iterator[tuple[int, str, Callable[[int], int]]]:
    """The weight operands of the operators that onnxruntime's optimiser writes."""
    if node.domain != "com.microsoft":
        return
    name = node.op_type
    if name in ("FusedConv", "NhwcConv", "NhwcFusedConv", "CausalConvWithState"):
        yield 1, "Conv", lambda rank: 0
    elif name == "ConvTransposeWithDynamicPads":
        yield 1, "ConvTranspose", lambda rank: 1
    elif name == "FusedGemm":
        yield 1, "Gemm", lambda rank: 0 if attributes.get("transB", 0) else 1
        yield 0, "Gemm", lambda rank: 1 if attributes.get("transA", 0) else 0
    elif name in ("FusedMatMul", "FusedMatMulActivation", "TransposeMatMul"):
        yield 1, "MatMul", partial(_matrix_axis, 1, bool(attributes.get("transB", 0)))
        yield 0, "MatMul", partial(_matrix_axis, 2, bool(attributes.get("transA", 0)))
    elif name in ("Attention", "GemmFastGelu"):
        yield 1, "MatMul", lambda rank: 1
    elif name == "TorchEmbedding":
        yield 0, "Embedding", lambda rank: 0
    elif name == "EmbedLayerNormalization":
        # segments and positions have their ids as inputs 1 and 8; without ids the table stays as it is
        for table, ids in ((2, 0), (3, 8), (4, 1)):
            if len(node.input) > ids and node.input[ids]:
                yield table, "Embedding", lambda rank: 0


def _matrix_axis(from_end: int, transposed: bool, rank: int) -> int:
    """The axis of a matrix product's operand that is not summed over, which a transposition moves."""
    return max(rank - (3 - from_end if transposed else from_end), 0)


def vector_places(node: NodeProto) -> tuple[int, ...]:
    """The positions of biases, norm scales and shifts, and slopes."""
    if node.domain not in ONNX_DOMAINS:
        return _FUSED_VECTORS.get(node.op_type, ()) if node.domain == "com.microsoft" else ()
    if node.op_type in ("Conv", "ConvTranspose", "Gemm", "CausalConvWithState"):
        return (2,)
    if node.op_type == "QLinearConv":
        return (8,)
    if node.op_type in ("LSTM", "GRU", "RNN"):
        return (3,)
    if node.op_type in _NORMS:
        return (1, 2)
    return (1,) if node.op_type == "PRelu" else ()
