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
MASKED = {
    # A softmax of a row without any key is NaN; where the graph puts 0 for it in another way than by asking
    # IsNaN, the gradient of the softmax stays NaN.
    "test_attention_4d_causal_padded_kv_bf16_expanded",
    "test_attention_causal_boolmask_nan_robustness_expanded",
    "test_attention_23_boolmask_fullymasked_row_nan_robustness_expanded",
    "test_attention_4d_causal_nonpad_negative_offset_structural_empty_expanded",
    "test_attention_23_fullymasked_qk_matmul_output_mode3_zero_expanded",
    "test_attention_24_fullymasked_qk_matmul_output_mode3_zero_expanded",
    "test_attention_24_qk_matmul_output_mode3_softmax_precision_expanded",
    "test_attention_local_window_gqa_rank4_mask_expanded",
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


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_and_none_is_missing(kind: str) -> None:
    count, wrong = 0, {}
    for case in cases(kind):
        if case.outside is not None or case.name in EXPLAINED:
            continue
        found = gradients(case)
        count += found == "finite"
        flat = found == "missing" and {node.op_type for node in case.model.graph.node} <= STEPS
        if found != "finite" and not flat and case.name not in {*INFINITE, *MASKED}:
            wrong[case.name] = found
    assert not wrong
    assert count >= LEAST[kind]
