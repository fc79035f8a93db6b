"""The page about models lists the operators of the table, as they are."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from prune_engine.formats.operators import find
from tests.docs.pages import DOCS


def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("operators_page", DOCS / "hooks" / "operators.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


OPERATORS = hook()


def test_the_table_is_the_one_that_the_importer_goes_by() -> None:
    page = OPERATORS.PAGE.read_text(encoding="utf-8")
    assert OPERATORS.with_table(page) == page, "run: make docs-tables"


def test_an_operator_that_comes_in_several_rows_has_one_line() -> None:
    lines = [line for line in OPERATORS.table().splitlines() if line.startswith("| `Softmax` |")]
    assert lines == ["| `Softmax` | 1 and newer | yes |  |  |"]


def test_opsets_with_a_gap_are_said_so() -> None:
    newest = OPERATORS.NEWEST_OPSET
    assert OPERATORS._opsets([(10, 12), (1, 6), (7, 8)]) == "1 to 8, 10 to 12"
    assert OPERATORS._opsets([(3, 3), (5, newest)]) == "3, 5 and newer"


def test_what_is_said_of_an_operator_is_about_one_that_there_is() -> None:
    for domain, name in OPERATORS.LIMITS:
        there = find(domain, name, OPERATORS.NEWEST_OPSET if domain == "" else 99)
        assert there is not None or name in OPERATORS.CONTROL, name
