"""Every job begins with the checks of an inspection: refused before data are fetched, or warned."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from prune_engine import PruneError, PruneSpec, prune
from prune_engine.formats import import_onnx, source_from_proto
from prune_engine.preflight import importable, model_warnings
from tests.prune_engine import inspected
from tests.prune_engine.formats.graphs import values


def not_finite() -> onnx.ModelProto:
    broken = values(3, 6)
    broken[1, 1] = np.inf
    return inspected.two_layers(w2=broken)


@pytest.mark.parametrize(
    ("proto", "code"),
    [
        (inspected.with_a_stranger(), "operator_unsupported"),
        (not_finite(), "model_not_finite"),
        (inspected.without_weights(), "no_prunable_weights"),
    ],
)
def test_a_model_that_cannot_be_pruned_is_refused_before_its_data_are_looked_for(
    proto: onnx.ModelProto, code: str
) -> None:
    with pytest.raises(PruneError) as refused:
        prune(proto, "no_such_data_set", PruneSpec(density=0.5))
    assert refused.value.code == code


def test_warnings_about_the_model_are_in_the_report() -> None:
    data = {"x": values(40, 4)}
    result = prune(inspected.shared_weight(), data, PruneSpec(density=0.5, epochs=1))
    assert any("'w' is shared by 3 nodes" in warning for warning in result.report.warnings)


def test_biases_that_are_not_finite_count_too() -> None:
    with pytest.raises(PruneError) as refused:
        importable(source_from_proto(inspected.two_layers(b1=np.full(6, np.nan, np.float32))))
    assert "'b1' (6)" in refused.value.message


def test_a_plain_model_has_no_warnings() -> None:
    source = source_from_proto(inspected.two_layers())
    assert model_warnings(source, import_onnx(source.proto)) == []
