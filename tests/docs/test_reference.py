"""The reference pages say what the code says: every field, in its order, with its default."""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from jobs.settings import Settings
from prune_engine.goals import Target
from prune_engine.inspection import Inspection
from prune_engine.report import LeftOut, Report, TensorInfo
from prune_engine.spec import Preprocess, PruneSpec
from tests.deploy.files import setting_names
from tests.docs.pages import names, tables

ELSEWHERE = {PruneSpec, Preprocess, Target}  # parts of the report that have a page of their own


def models_in(annotation: Any) -> set[type[BaseModel]]:
    """The models that a field's type is made of."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return {annotation} if issubclass(annotation, BaseModel) else set()
    return set().union(*(models_in(part) for part in typing.get_args(annotation)))


def parts_of(model: type[BaseModel]) -> set[type[BaseModel]]:
    """`model`, and every model inside it."""
    found = {model}
    for field in model.model_fields.values():
        for part in models_in(field.annotation) - ELSEWHERE:
            found |= parts_of(part)
    return found


REPORT = sorted(parts_of(Report), key=lambda model: model.__name__)
INSPECTION = sorted(parts_of(Inspection) - {TensorInfo, LeftOut}, key=lambda model: model.__name__)


@pytest.mark.parametrize("model", REPORT, ids=lambda model: model.__name__)
def test_the_report_s_page_explains_every_field(model: type[BaseModel]) -> None:
    assert names(tables("report.md")[model.__name__]) == list(model.model_fields)


def test_the_report_s_page_explains_nothing_that_is_not_there() -> None:
    assert set(tables("report.md")) == {model.__name__ for model in REPORT}


@pytest.mark.parametrize("model", INSPECTION, ids=lambda model: model.__name__)
def test_the_inspection_s_page_explains_every_field(model: type[BaseModel]) -> None:
    assert names(tables("inspection.md")[model.__name__]) == list(model.model_fields)


def test_the_inspection_s_page_explains_nothing_that_is_not_there() -> None:
    assert set(tables("inspection.md")) == {model.__name__ for model in INSPECTION}


@pytest.mark.parametrize("model", [PruneSpec, Preprocess, Target], ids=lambda model: model.__name__)
def test_the_spec_s_page_explains_every_field(model: type[BaseModel]) -> None:
    rows = tables("spec.md")[model.__name__]
    assert names(rows) == list(model.model_fields)
    for name, default, values, meaning in rows:
        field = model.model_fields[name.strip("`")]
        assert default.strip("`") == shown(field), f"{name}: its default is {shown(field)}"
        assert values
        assert meaning.endswith((".", ")."))
        for option in options(field.annotation):
            assert f"`{option}`" in values, f"{name}: {option} is missing"


def shown(field: Any) -> str:
    """A default as the page writes it."""
    if field.is_required():
        return "required"
    value = field.default
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(f"{item:g}" for item in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def options(annotation: Any) -> set[str]:
    """The words that a field takes."""
    if typing.get_origin(annotation) is typing.Literal:
        return set(typing.get_args(annotation))
    return set().union(*(options(part) for part in typing.get_args(annotation)))


def test_the_settings_page_explains_every_setting() -> None:
    rows = tables("settings.md")["Settings"]
    documented = {
        name.removeprefix("PRUNERY_").lower(): default
        for name, default in zip(names(rows), (row[1] for row in rows), strict=True)
    }
    assert list(documented) == list(Settings.model_fields)
    assert set(names(rows)) <= setting_names()
    for name, field in Settings.model_fields.items():
        default = "unset" if field.default is None else str(field.default)
        assert documented[name].strip("`") == default, f"{name}: its default is {default}"
    assert all(row[2].endswith(".") for row in rows)


def test_the_settings_page_gives_the_plain_names_that_exist() -> None:
    plain = {name for name in setting_names() if not name.startswith("PRUNERY_")}
    text = Path(__file__).parents[2].joinpath("docs/settings.md").read_text()
    assert plain == {
        *("REDIS_URL", "ARTIFACTS_URL", "DATASETS_DIR", "SANDBOX", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    }
    assert [name for name in plain if f"`{name}`" not in text] == []
