"""Gradients over ONNX's own conformance tests: finite wherever mathematics has them, and none is missing."""

from __future__ import annotations

import pytest
import torch
from onnx import TensorProto

from benchmarks.conformance.backend_cases import EXPLAINED, KINDS, Case, cases
from prune_engine.formats.importer import compile_graph
from prune_engine.formats.tensors import to_numpy
from prune_engine.formats.values import to_torch

LEAST = {"node": 1350, "simple": 1, "pytorch-converted": 75, "pytorch-operator": 25}
INFINITE = {
    "test_acosh_example": "at 1",
    "test_operator_sqrt": "unset memory: of 0",
    "test_operator_pow": "unset memory: of 0",
    "test_mod_float_edge_cases_fmod_0_float16": "of infinity and of 0",
    "test_mod_float_edge_cases_fmod_0_float32": "of infinity and of 0",
    "test_mod_float_edge_cases_fmod_0_float64": "of infinity and of 0",
}
STEPS = {"Hardmax", "Cast", "CastLike", "Range", "TreeEnsemble", "Binarizer", "MelWeightMatrix"}
STEPS |= {"DynamicQuantizeLinear", "ReduceMax", "ReduceMin"}  # the last two: of nothing


def gradients(case: Case) -> str:
    """What the gradients of the sum of the finite outputs are: "finite", "not finite" or "missing"."""
    module = compile_graph(case.model).eval()
    given = case.data_sets[0][0]
    inputs = [to_torch(to_numpy(v) if isinstance(v, TensorProto) else v) for v in given]
    inputs = [v.requires_grad_() if v.is_floating_point() else v for v in inputs]
    outputs = [out for out in module(*inputs) if out.is_floating_point()]
    if not outputs or not any(v.requires_grad for v in inputs):
        return "finite"
    outputs = [out for out in outputs if out.requires_grad]
    if not outputs:
        return "missing"
    total = torch.stack(
        [torch.where(out.isfinite(), out, torch.zeros_like(out)).sum() for out in outputs]
    ).sum()
    found = torch.autograd.grad(total, [v for v in inputs if v.requires_grad], allow_unused=True)
    return "finite" if all(g is None or bool(g.isfinite().all()) for g in found) else "not finite"


def masked(case: Case) -> bool:
    """Whether a row of an attention that is written out may see no key.

    Its softmax is NaN, which the graph turns into 0 afterwards; the gradient of the softmax stays NaN.
    """
    return "attention" in case.name and case.name.endswith("_expanded")


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_and_none_is_missing(kind: str) -> None:
    count, wrong = 0, {}
    for case in cases(kind):
        if case.outside is not None or case.name in EXPLAINED:
            continue
        found = gradients(case)
        count += found == "finite"
        flat = found == "missing" and {node.op_type for node in case.model.graph.node} <= STEPS
        if found != "finite" and not flat and case.name not in INFINITE and not masked(case):
            wrong[case.name] = found
    assert not wrong
    assert count >= LEAST[kind]
