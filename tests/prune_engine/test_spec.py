"""The spec's own checks: patterns as text or lists, and fields that contradict each other."""

from __future__ import annotations

from typing import Any

import pytest

from prune_engine.errors import SpecError
from prune_engine.spec import PruneSpec, parse_spec


@pytest.mark.parametrize(
    ("sent", "patterns"),
    [
        ("*fc3*", ("*fc3*",)),
        ("a*, b* ,", ("a*", "b*")),
        ('["a*", "b, c"]', ("a*", "b, c")),
        ("[ab]*", ("[ab]*",)),
        ("[1]", ("[1]",)),
        ("[" * 5000, None),
        (["x"], ("x",)),
        ("", ()),
        ("[]", ()),
    ],
)
def test_patterns_come_as_one_as_several_or_as_json(sent: Any, patterns: tuple[str, ...] | None) -> None:
    if patterns is None:
        with pytest.raises(SpecError, match="at most 1000 characters"):
            parse_spec({"density": 0.5, "include": sent})
        return
    spec = parse_spec({"density": 0.5, "include": sent})
    assert spec.include == patterns
    assert parse_spec(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize("wrong", [[1], [""], {"a": 1}, 7, [["a"]]])
def test_what_is_no_pattern_is_refused(wrong: Any) -> None:
    with pytest.raises(SpecError) as refused:
        parse_spec({"density": 0.5, "exclude": wrong})
    assert refused.value.param == "exclude"


@pytest.mark.parametrize("field", ["preprocess", "target", "layer_density", "input_specs"])
def test_json_that_is_nested_without_end_is_refused(field: str) -> None:
    with pytest.raises(SpecError) as refused:
        parse_spec({"density": 0.5, field: '{"a":' * 20_000 + "1" + "}" * 20_000})
    assert refused.value.param == field


@pytest.mark.parametrize(
    ("field", "sent", "said"),
    [
        (
            "target",
            "{max_accuracy_drop: 0.01}",
            'no JSON: .*; it should look like {"max_accuracy_drop": 0.01}',
        ),
        ("target", '{"max_acc": 0.01}', "'max_acc' is unknown in it; it should look like {\"max_acc"),
        (
            "layer_density",
            "0.5",
            'should look like {"conv1\\*": \\[0.2, null\\], "head\\*": 0.5} \\(got \'0.5',
        ),
        ("layer_density", '{"a": "b"}', "should look like {.*got 'b'"),
        ("layer_density", '{"a": [0.1]}', "should look like {"),
        ("layer_density", '{"a": [0.1, 0.2, 0.3]}', "should look like {"),
        ("layer_density", '{"a": 2}', r"should be less than or equal to 1 \(got '2'\)"),
        ("layer_density", '{"a": true}', "should look like {"),
        ("preprocess", "foo", 'should look like auto or {"scale": 0.0039.*}'),
        ("preprocess", '{"men": [0.5]}', "'men' is unknown in it; it should look like auto or {"),
        ("preprocess", '{"layout": "x"}', "preprocess.layout: should be 'as_is', 'nchw'"),
        ("input_specs", '{"x": [1, 3]}', 'should look like {"x": \\[\\[null, 3, 224, 224\\], "float32"\\]}'),
        ("exclude", {"a": 1}, "should look like "),
    ],
)
def test_what_has_the_wrong_form_is_told_the_right_one(field: str, sent: Any, said: str) -> None:
    goal = {} if field == "target" else {"density": 0.5}
    with pytest.raises(SpecError, match=said) as refused:
        parse_spec({**goal, field: sent})
    assert refused.value.param == field
    assert refused.value.message.startswith(field)


def test_one_number_for_a_layer_is_its_least_and_its_most() -> None:
    spec = parse_spec({"density": 0.5, "layer_density": '{"fc*": 0.25, "head": [null, 1]}'})
    assert spec.layer_density == {"fc*": (0.25, 0.25), "head": (None, 1.0)}
    assert parse_spec(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target_column", "\ud800"),
        ("exclude", ["\udfff"]),
        ("layer_density", {"a\ud800": [0.1, None]}),
        ("input_specs", {"\ud800": [[1, 2], "float32"]}),
    ],
)
def test_half_a_character_is_refused(field: str, value: Any) -> None:
    with pytest.raises(SpecError) as refused:
        parse_spec({"density": 0.5, field: value})
    assert refused.value.param == field
    assert refused.value.message.encode()


@pytest.mark.parametrize("minutes", [1e308, 1e17, 600_000, 0, -1, "nan", "inf"])
def test_a_time_that_nobody_can_mean_is_refused(minutes: Any) -> None:
    with pytest.raises(SpecError, match=r"^max_minutes: "):
        parse_spec({"density": 0.5, "max_minutes": minutes})


@pytest.mark.parametrize("field", ["learning_rate", "weight_decay", "fix_mask_at"])
def test_weights_that_stay_have_no_rate_no_decay_and_nothing_after_the_mask(field: str) -> None:
    with pytest.raises(SpecError, match=f"^{field}: with train_weights false") as refused:
        parse_spec({"density": "0.5", "train_weights": "false", field: "0.5"})
    assert refused.value.param == field
    assert getattr(parse_spec({"density": 0.5, field: 0.5}), field) == 0.5


def test_defaults_prune_everything_and_train_it_from_where_it_is() -> None:
    spec = PruneSpec(density=0.5)
    assert (spec.include, spec.exclude, spec.train_weights, spec.init) == ((), (), True, "given")
