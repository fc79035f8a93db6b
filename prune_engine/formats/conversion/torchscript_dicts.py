"""The TorchScript-based exporter cannot return a dict: its tensors are returned as a tuple instead."""

from __future__ import annotations

from typing import Any

import torch


def return_tuples(module: torch.jit.ScriptModule) -> None:
    """Changes the graph of `forward`, where it ends with making a dict, to return the values in order."""
    graph = module.graph
    torch._C._jit_pass_inline(graph)
    result = next(iter(graph.outputs()))
    if result.node().kind() != "prim::DictConstruct":
        return
    values = _tensors(result.node())
    if not all(value.type().kind() == "TensorType" for value in values):
        return
    row = graph.create("prim::TupleConstruct", values, 1)
    row.output().setType(torch._C.TupleType([value.type() for value in values]))
    row.insertBefore(graph.return_node())
    graph.return_node().replaceInput(0, row.output())


def _tensors(node: Any) -> list[Any]:
    """The values of a dict, or the elements of a tuple or a list, however deep."""
    kind, inputs = node.kind(), list(node.inputs())
    flat = []
    for value in inputs[1::2] if kind == "prim::DictConstruct" else inputs:
        nested = value.node().kind() in ("prim::DictConstruct", "prim::TupleConstruct", "prim::ListConstruct")
        flat += _tensors(value.node()) if nested else [value]
    return flat
