"""density, target and frontier: what may be asked, in which form, and what is said otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from prune_engine.errors import SpecError
from prune_engine.goals import MOST_STOPS
from prune_engine.spec import PruneSpec, has_goal, parse_spec, with_density


@pytest.mark.parametrize(
    "given",
    ["0.1,0.5,0.2,0.5", "[0.1, 0.5, 0.2]", [0.2, 0.1, 0.5], (0.5, 0.2, 0.1), " 0.2 , 0.5,0.1, "],
)
def test_a_frontier_is_sorted_and_each_density_comes_once(given: Any) -> None:
    spec = parse_spec({"frontier": given})
    assert spec.frontier == (0.5, 0.2, 0.1) == spec.densities
    assert parse_spec(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize("given", ['{"max_accuracy_drop": 0.01}', {"max_accuracy_drop": "0.01"}])
def test_a_target_is_an_object_or_its_json(given: Any) -> None:
    spec = parse_spec({"target": given})
    assert spec.target is not None
    assert spec.target.max_accuracy_drop == 0.01
    assert spec.densities == ()
    assert parse_spec(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({}, "density", "frontier"),
        ({"density": None}, "density", "target"),
        ({"density": 0.1, "frontier": [0.1]}, "frontier", "does not go with density"),
        ({"density": 0.1, "target": {"max_accuracy_drop": 0.1}}, "target", "does not go with density"),
        ({"frontier": [0.1], "target": {"max_accuracy_drop": 0.1}}, "frontier", "does not go with target"),
        ({"frontier": []}, "frontier", "0.5,0.2,0.1"),
        ({"frontier": "half"}, "frontier", "0.5,0.2,0.1"),
        ({"frontier": 0.5}, "frontier", "0.5,0.2,0.1"),
        ({"frontier": [0.5, 0.0]}, "frontier", "greater than 0"),
        ({"frontier": [1.5]}, "frontier", "less than or equal to 1"),
        ({"frontier": "nan"}, "frontier", "finite"),
        ({"frontier": [n / 100 for n in range(1, MOST_STOPS + 2)]}, "frontier", "too many"),
        ({"target": {}}, "target", "give one of"),
        ({"target": {"max_accuracy_drop": 0.1, "max_error_increase": 0.1}}, "target", "give one of"),
        ({"target": {"max_accuracy_drop": 1.0}}, "target", "less than 1"),
        ({"target": {"max_accuracy_drop": -0.01}}, "target", "greater than or equal to 0"),
        ({"target": {"max_error_increase": -1}}, "target", "greater than or equal to 0"),
        ({"target": "0.01"}, "target", "max_accuracy_drop"),
        ({"target": {"max_loss": 1}}, "target", "'max_loss' is unknown"),
        ({"granularity": "2:4", "target": {"max_accuracy_drop": 0.1}}, "target", "leave target out"),
        ({"granularity": "2:4", "frontier": "0.5"}, "frontier", "leave frontier out"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], param: str, said: str) -> None:
    with pytest.raises(SpecError) as refused:
        parse_spec(fields)
    assert refused.value.param == param
    assert said in refused.value.message


def test_one_density_of_several() -> None:
    spec = parse_spec({"frontier": "0.5,0.2", "seed": 3})
    assert spec.at(0.2) == PruneSpec(density=0.2, seed=3)
    with pytest.raises(TypeError):
        _ = spec.one_density


def test_a_stand_in_is_for_specs_without_a_goal() -> None:
    assert with_density({"seed": 1}, 0.9) == {"seed": 1, "density": 0.9}
    for fields in ({"frontier": "0.5"}, {"target": {}}, {"granularity": "2:4"}, {"density": 0.1}):
        assert has_goal(fields)
        assert with_density(fields, 0.9) == fields
    assert not has_goal({"granularity": "4x1"})
    assert has_goal({"granularity": "nonsense"})  # refused for that, not for a missing density
