"""The inspection as a page: everything is on it, strangers' names stay in their place, and it fits."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser

from prune_engine import Inspection, inspect
from prune_engine.inspection_page import outlook, render_inspection, sentences
from prune_engine.typography import THIN
from tests.browser import undisturbed
from tests.prune_engine import inspected
from tests.prune_engine.sample_report import HOSTILE_NAMES

SOUND = inspect(inspected.two_layers(), None, {"density": 0.5})
STRANGE = inspect(inspected.with_a_stranger())


def hostile() -> Inspection:
    """Names from strangers wherever there are names, and many of them."""
    weights = [SOUND.weights[0].model_copy(update={"name": name, "nodes": (name,)}) for name in HOSTILE_NAMES]
    complaint = STRANGE.problems[0].model_copy(update={"message": HOSTILE_NAMES[0]})
    return STRANGE.model_copy(
        update={
            "filename": "w" * 300 + "<script>alert(3)</script>",
            "weights": weights * 8,
            "warnings": list(HOSTILE_NAMES),
            "problems": [complaint],
            "producer": HOSTILE_NAMES[1],
        }
    )


def test_everything_is_on_the_page() -> None:
    page = render_inspection(SOUND)
    for weight in SOUND.weights:
        assert weight.name in page
    for constant in SOUND.not_prunable:
        assert constant.name in page
        assert constant.reason in page
    for text in ("Gemm", "Relu", "onnx, as sent", SOUND.sha256, "This model can be pruned.", "keeps 21"):
        assert text in page


def test_what_is_wrong_comes_with_its_code_and_its_nodes() -> None:
    page = render_inspection(STRANGE)
    assert "A job would fail: one thing is wrong." in page
    for text in ("operator_unsupported", "com.acme", "first stranger", "second stranger"):
        assert text in page


def test_the_outlook_says_what_is_not_known() -> None:
    lines = {line.name: line for line in outlook(STRANGE)}
    assert lines["training time here"].value == "not known"
    assert "cannot be pruned" in lines["training time here"].note
    known = {line.name: line for line in outlook(SOUND)}
    assert known["density asked for"].note == "21 weights kept, which is 0.500000000 exactly"
    assert known["multiply-adds of a row"].value == "42"


@pytest.mark.parametrize(
    ("granularity", "value", "note"),
    [
        ("weight", "0.0714 to 1", "in steps of 0.0238: one weight"),
        ("2:4", "0.500 only", "the share that stays is fixed"),
        ("1x2", "0.143 to 1", "in steps of 0.0476: one block"),
    ],
)
def test_the_densities_are_those_of_the_granularity(granularity: str, value: str, note: str) -> None:
    found = inspect(inspected.two_layers(), None, {"granularity": granularity})
    (line,) = [line for line in outlook(found) if line.name == "densities it can have"]
    assert (line.value, line.note) == (value, note)


def test_the_outcome_is_one_sentence_or_three() -> None:
    assert sentences(SOUND) == [
        "This model can be pruned.",
        f"42 of its 51 parameters (82.4{THIN}%) are prunable, in 2 weights.",
        "Density 0.5 keeps 21.",
    ]
    nothing = inspect(inspected.without_weights())
    assert sentences(nothing) == ["A job would fail: one thing is wrong."]


def test_nothing_of_a_stranger_gets_out_of_its_place() -> None:
    page = render_inspection(hostile())
    assert "<script" not in page
    assert "<img" not in page
    assert "<iframe" not in page
    assert "\u202e" not in page


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
@pytest.mark.parametrize("found", [SOUND, STRANGE, hostile()], ids=["sound", "strange", "hostile"])
def test_the_page_fits_and_needs_nothing_else(
    browser: Browser, tmp_path: Path, found: Inspection, width: int, scheme: Literal["light", "dark"]
) -> None:
    file = tmp_path / "inspection.html"
    file.write_text(render_inspection(found), encoding="utf-8")
    with undisturbed(browser, file, width, scheme):
        pass
