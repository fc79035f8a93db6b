"""docs/http.md shows every operation, and answers with the fields that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from jobs.settings import Settings
from prune_engine.inspection import Inspection
from service.app import create_app
from service.form import KNOWN
from service.problems import Problem
from service.views import DatasetView, DeliveryView, EventView, JobList, JobView

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "http.md").read_text(encoding="utf-8")


def exchanges() -> list[tuple[str, Any]]:
    """Each command on the page with its answer, read as JSON where it is JSON."""
    found = []
    for block in re.findall(r"^```\n\$ (curl .*?)^```", PAGE, re.M | re.S):
        command, _, answer = block.partition("\n")
        body = answer.partition("\n\n")[2] if answer.startswith("HTTP/") else answer
        try:
            found.append((command, json.loads(body)))
        except ValueError:
            found.append((command, None))
    return found


def test_every_operation_is_shown() -> None:
    for path, methods in create_app(Settings(_env_file=None)).openapi()["paths"].items():
        for method in methods:
            assert f"`{method.upper()} {path}`" in PAGE, (method, path)


def test_every_kind_of_request_has_an_exchange() -> None:
    commands = "\n".join(command for command, _ in exchanges())
    for part in (
        "-F model=@",
        "?wait=30",
        "/models/inspect",
        "validate_only=true",
        "/cancel",
        "/webhook/deliveries",
        "/send",
        "-X DELETE",
        "text/event-stream",
        "/model",
        "/report",
        "/artifacts/",
        "/datasets",
        "/healthz",
        "/readyz",
        "/metrics",
    ):
        assert part in commands, part


@pytest.mark.parametrize(("command", "answer"), exchanges())
def test_an_answer_on_the_page_has_the_fields_that_it_has_today(command: str, answer: Any) -> None:
    if not isinstance(answer, dict):
        return
    if answer.get("object") == "job":
        assert set(answer) == fields(JobView), command
    elif answer.get("object") == "list":
        assert set(answer) == fields(JobList), command
        for item in answer["data"]:
            if item == "…":
                continue
            if item.get("object") == "job":
                assert set(item) == fields(JobView), command
            elif item.get("object") == "delivery":
                assert set(item) == fields(DeliveryView), command
            elif "title" in item:
                assert set(item) == fields(DatasetView), command
            else:
                assert set(item) >= fields(EventView), command
    elif "prunable" in answer:
        assert set(answer) == fields(Inspection), command
    elif "request_id" in answer:
        assert set(answer) == fields(Problem), command


def fields(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields)


def test_the_fields_of_a_job_are_listed_as_they_are() -> None:
    [answer] = [answer for _, answer in exchanges() if answer and answer.get("code") == "field_unknown"]
    listed = answer["detail"].partition("the fields are ")[2].split(", ")
    assert listed == list(KNOWN)
