"""The OpenAPI document: complete, with examples that are true to their schemas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from jobs.settings import Settings
from prune_engine.spec import PruneSpec
from service.app import create_app
from service.form import KNOWN
from tests.service.conftest import Api


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Settings(_env_file=None)).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def check(document: dict[str, Any], schema: dict[str, Any], value: object) -> None:
    whole = {**schema, "components": document["components"]}
    jsonschema.Draft202012Validator(whole).validate(value)


def test_every_operation_is_named_and_described(document: dict[str, Any]) -> None:
    ids = []
    for name, operation in operations(document):
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"], name
        ids.append(operation["operationId"])
    assert len(set(ids)) == len(ids)
    assert {"createJob", "getJob", "listEvents", "getModel", "metrics"} <= set(ids)


def test_every_parameter_has_a_description_and_an_example(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for parameter in operation.get("parameters", []):
            assert parameter["description"], (name, parameter["name"])
            schema = parameter["schema"]
            examples = schema.get("examples") or [
                value for option in schema.get("anyOf", []) for value in option.get("examples", [])
            ]
            assert examples, (name, parameter["name"])
            for example in examples:
                check(document, schema, example)


def test_every_answer_has_an_example_that_is_true_to_its_schema(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            assert response["description"], (name, status)
            assert "X-Request-ID" in response["headers"], (name, status)
            for kind, content in response.get("content", {}).items():
                if content["schema"].get("format") == "binary" or content["schema"].get("$ref", "").endswith(
                    "/Report"
                ):
                    continue  # a file; what is in it is documented elsewhere
                examples = [item["value"] for item in content.get("examples", {}).values()]
                examples += [content["example"]] if "example" in content else []
                assert examples, (name, status, kind)
                for example in examples:
                    check(document, content["schema"], example)


def test_every_error_answer_is_a_problem(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) >= 400 and (name, status) != ("GET /readyz", "503"):
                assert list(response["content"]) == ["application/problem+json"], (name, status)
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_the_body_of_a_submission_has_every_field(document: dict[str, Any]) -> None:
    body = document["paths"]["/jobs"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert set(body["schema"]["properties"]) == set(KNOWN)
    assert set(body["schema"]["required"]) == {"model", "dataset"}
    for name in PruneSpec.model_fields:
        assert body["schema"]["properties"][name]["description"], name
    for example in body["examples"].values():
        check(document, body["schema"], example["value"])


def test_the_documentation_page_and_the_document_are_served(api: Api) -> None:
    assert "swagger" in api.client.get("/docs").text
    assert api.client.get("/openapi.json").json()["openapi"].startswith("3.")
