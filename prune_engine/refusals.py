"""What is said of a spec that is refused: the field to blame, what is wrong, and what it can be. Light."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from prune_engine.errors import SpecError

Fields = Mapping[str, FieldInfo]

_WRONG_FORMS = {
    "no_json": "{msg}; it ",
    "extra_forbidden": "{key!r} is unknown in it; it ",
    **dict.fromkeys(
        ("dict_type", "list_type", "tuple_type", "model_type", "missing", "too_long", "too_short"), ""
    ),
}
"""Pydantic's names for what is no value of its field in any range, and how the answer begins."""


def refusal(error: ValidationError, fields: Fields, nested: Iterable[str]) -> SpecError:
    """One sentence that lists every wrong field; of a union's complaints that of its form, or the last.

    Args:
        error: what pydantic found.
        fields: of the spec.
        nested: names within a field that a message should name as well.
    """
    known = {*fields, *nested}
    complaints: dict[str, str] = {}
    settled: set[str] = set()
    for item in error.errors(include_url=False):
        field, said = _complaint(item, fields, known)
        if field not in settled:
            complaints[field] = said
        if item["type"] in _WRONG_FORMS:
            settled.add(field)
    return SpecError("; ".join(complaints.values()), param=next(iter(complaints)))


def _complaint(item: ErrorDetails, fields: Fields, known: Container[object]) -> tuple[str, str]:
    """The field to blame and the sentence."""
    field = str(item["loc"][0]) if item["loc"] else "spec"
    if item["type"] == "contradiction":
        field = item["ctx"]["field"]
        return field, f"{field}: {item['msg']}"
    if item["type"] == "extra_forbidden" and len(item["loc"]) == 1:
        return field, f"{field}: unknown field; known fields are {', '.join(fields)}"
    if item["type"] == "missing" and len(item["loc"]) == 1:
        return field, f"{field}: required"
    got = f"(got {str(item['input'])[:80]!r})"
    if item["type"] in _WRONG_FORMS and (examples := _examples(fields.get(field))):
        why = _WRONG_FORMS[item["type"]].format(msg=item["msg"], key=item["loc"][-1])
        return field, f"{field}: {why}should look like {examples} {got}"
    where = ".".join(str(part) for part in item["loc"] if part in known)
    said = str(item["msg"]).replace("Input should be", "should be").removeprefix("Value error, ")
    return field, f"{where or field}: {said} {got}"


def _examples(found: FieldInfo | None) -> str:
    """What a field can be, as JSON; empty where its description has no examples."""
    given = (found.examples if found is not None else None) or []
    return " or ".join(example if isinstance(example, str) else json.dumps(example) for example in given)
