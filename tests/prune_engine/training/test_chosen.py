"""Which weights are gated: patterns on names of weights and nodes, and what is said where none fits."""

from __future__ import annotations

import pytest

from prune_engine.errors import SpecError
from prune_engine.spec import PruneSpec
from prune_engine.training.chosen import Chosen, choose, matches
from tests.prune_engine.training.tasks import Weight

WEIGHTS = [
    Weight("conv1.weight", (6, 1, 5, 5), "Conv", nodes=("/conv1/Conv",)),
    Weight("onnx::MatMul_12", (400, 120), "MatMul", 1, nodes=("/fc1/MatMul", "/tied/MatMul")),
    Weight("blocks[0].fc", (10, 120), nodes=("/fc2/Gemm",)),
]


def chosen(**fields: object) -> Chosen[Weight]:
    return choose(WEIGHTS, PruneSpec(density=0.1, **fields))  # type: ignore[arg-type]


def gated(**fields: object) -> list[str]:
    return [weight.name for weight in chosen(**fields).gated]


def test_without_patterns_every_weight_is_gated() -> None:
    assert gated() == [weight.name for weight in WEIGHTS]
    assert chosen().left_out == ()
    assert chosen().prunable == 150 + 48_000 + 1_200


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["conv*"], ["conv1.weight"]),
        (["*/MatMul"], ["onnx::MatMul_12"]),
        (["/tied/*"], ["onnx::MatMul_12"]),
        (["blocks[0].fc"], ["blocks[0].fc"]),
        (["/fc?/*"], ["onnx::MatMul_12", "blocks[0].fc"]),
        (["conv1.weight", "/fc2/Gemm"], ["conv1.weight", "blocks[0].fc"]),
    ],
)
def test_patterns_fit_the_names_of_weights_and_of_nodes(patterns: list[str], names: list[str]) -> None:
    assert gated(include=patterns) == names
    assert gated(exclude=patterns) == [weight.name for weight in WEIGHTS if weight.name not in names]


def test_exclude_wins_over_include_and_each_reason_names_its_field() -> None:
    made = chosen(include=["conv*", "/fc1/*"], exclude=["*MatMul_12"])
    assert [weight.name for weight in made.gated] == ["conv1.weight"]
    assert [(one.name, one.kind, one.shape) for one in made.left_out] == [
        ("onnx::MatMul_12", "MatMul", (400, 120)),
        ("blocks[0].fc", "Gemm", (10, 120)),
    ]
    assert "exclude" in made.left_out[0].reason
    assert "'*MatMul_12'" in made.left_out[0].reason
    assert "include" in made.left_out[1].reason


@pytest.mark.parametrize("field", ["include", "exclude"])
def test_a_pattern_that_fits_nothing_is_refused_with_the_names_there_are(field: str) -> None:
    with pytest.raises(SpecError) as refused:
        chosen(**{field: ["conv*", "Conv*", "nothing"]})
    assert refused.value.param == field
    for said in ("'Conv*', 'nothing' match", "conv1.weight", "/conv1/Conv", "blocks[0].fc", "/fc2/Gemm"):
        assert said in refused.value.message
    assert "'conv*'" not in refused.value.message


def test_a_choice_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match=r"no weight is left to prune.*'conv1.weight': exclude has '\*'") as e:
        chosen(exclude=["*"])
    assert e.value.param == "exclude"
    with pytest.raises(SpecError) as e:
        chosen(include=["conv*"], exclude=["/conv1/*"])
    assert e.value.param == "exclude"


def test_long_lists_of_names_are_cut() -> None:
    many = [Weight(f"w{number}", (2, 2)) for number in range(500)]
    with pytest.raises(SpecError, match="and 460 more"):
        choose(many, PruneSpec(density=0.5, include=("x",)))


def test_a_pattern_of_one_weight_does_not_fit_its_neighbour() -> None:
    assert not matches("conv", WEIGHTS[0])
    assert not matches("CONV*", WEIGHTS[0])
