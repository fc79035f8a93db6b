"""The fields of `POST /jobs`: which there are, and how they become one `PruneSpec`."""

from __future__ import annotations

import json
from typing import Any, Final

from jobs.record import PRIORITIES, Priority
from jobs.webhooks.asking import FIELDS as WEBHOOK_FIELDS
from prune_engine.errors import SpecError
from prune_engine.spec import PruneSpec, has_goal, parse_spec, with_density
from service.errors import FieldConflictError, FieldMissingError, FieldUnknownError

FILES: Final = ("model", "dataset", "tokenizer")
SPEC: Final = "spec"
SPEC_FIELDS: Final = tuple(PruneSpec.model_fields)
PRIORITY: Final = "priority"
_OF_THE_JOB: Final = (*FILES, PRIORITY, *WEBHOOK_FIELDS)
KNOWN: Final = (*_OF_THE_JOB, SPEC, *SPEC_FIELDS)


def check_name(name: str) -> None:
    """Refuse a field that means nothing here.

    Raises:
        FieldUnknownError: with the list of those that do.
    """
    if name not in KNOWN:
        raise FieldUnknownError(
            f"{name[:100]!r} is no field of a job; the fields are {', '.join(KNOWN)}", param=name[:100]
        )


def spec_of(fields: dict[str, str]) -> PruneSpec:
    """The spec that the text fields ask for: those of `PruneSpec`, and JSON in `spec`.

    Raises:
        SpecError: `spec` is no JSON object, or a field is missing or out of range.
        FieldMissingError: there is neither a density nor what stands instead of one.
        FieldConflictError: a field was given both by itself and in `spec`.
    """
    given = spec_fields(fields)
    if not has_goal(given):
        raise FieldMissingError(
            "density is missing; send the share of the weights to keep, in (0, 1]: density=0.1; or several, "
            'frontier=0.5,0.2,0.1; or what may be lost, target={"max_accuracy_drop": 0.01}',
            param="density",
        )
    return parse_spec(given)


def priority_of(fields: dict[str, str]) -> Priority:
    """When the job is taken, as against others that wait.

    Raises:
        SpecError: it is none of the three.
    """
    given = fields.get(PRIORITY, "").strip() or "normal"
    for known in PRIORITIES:
        if given == known:
            return known
    raise SpecError(f"priority: {given[:40]!r} is none of {', '.join(PRIORITIES)}", param=PRIORITY)


def partial_spec_of(fields: dict[str, str]) -> dict[str, Any]:
    """The fields of the spec that were sent, each checked; there need not be a density.

    Raises:
        SpecError, FieldConflictError: as `spec_of` raises them.
    """
    given = spec_fields(fields)
    parse_spec(with_density(given, 1.0))
    return given


def spec_fields(fields: dict[str, str]) -> dict[str, Any]:
    """Every field of the spec that was sent, by itself or in `spec`, not yet checked. Raises as `spec_of`."""
    given: dict[str, Any] = _json_object(fields[SPEC]) if SPEC in fields else {}
    for name in given:
        if name in _OF_THE_JOB:
            raise SpecError(f"{name} cannot be inside spec; send it as a form field of its own", param=name)
    for name, value in fields.items():
        if name not in SPEC_FIELDS or not value.strip():
            continue  # A form cannot leave a field out as easily as it can leave it empty.
        if name in given:
            raise FieldConflictError(
                f"{name} was sent as a field and in spec; send it in one of the two", param=name
            )
        given[name] = value.strip()
    return given


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError(f'spec is not JSON: {error}; example: {{"density": 0.1, "epochs": 2}}') from None
    if not isinstance(value, dict):
        raise SpecError('spec must be a JSON object, such as {"density": 0.1, "epochs": 2}')
    return value
