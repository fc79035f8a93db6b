"""Errors that another process tells of by their code are the errors that they were."""

from __future__ import annotations

import pytest

from prune_engine.errors import ModelUnsafeError, NotFiniteError, PruneError, told


@pytest.mark.parametrize(
    ("code", "kind"), [("model_unsafe", ModelUnsafeError), ("data_not_finite", NotFiniteError)]
)
def test_a_known_code_is_its_own_class(code: str, kind: type[PruneError]) -> None:
    error = told(code, "what was wrong", "model")
    assert type(error) is kind
    assert (error.code, error.message, error.param) == (code, "what was wrong", "model")


def test_a_code_without_a_class_is_kept() -> None:
    error = told("child_crashed", "gone")
    assert type(error) is PruneError
    assert error.code == "child_crashed"
    assert PruneError.code == "internal_error"


def test_codes_of_other_rooms_are_not_taken_on_trust() -> None:
    import jobs.errors  # noqa: F401 - its classes are PruneErrors too, and take other arguments

    assert type(told("job_not_found", "hostile", "x")) is PruneError
