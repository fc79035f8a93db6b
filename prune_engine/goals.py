"""What a run aims for beside a single density: several (`frontier`), or how much may be lost (`target`)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

MOST_STOPS = 20

Density = Annotated[float, Field(gt=0.0, le=1.0, allow_inf_nan=False)]


class Target(BaseModel):
    """How much may be lost; exactly one of the first two, by what the model is measured with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_accuracy_drop: Annotated[float, Field(ge=0.0, lt=1.0, allow_inf_nan=False)] | None = Field(
        None, description="Accuracy that may be lost, as a fraction: 0.01 is one percentage point."
    )
    max_error_increase: Annotated[float, Field(ge=0.0, le=100.0, allow_inf_nan=False)] | None = Field(
        None, description="Error that may be added, relative to the dense model's: 0.05 is 5 % more."
    )

    rows: Literal["held_out", "training"] = Field(
        "held_out",
        description="What the search measures on. `held_out`: half of the held-out rows; the report then "
        "measures on the other half. `training`: training rows that are held back for it.",
    )

    @model_validator(mode="before")
    @classmethod
    def _an_object(cls, given: Any) -> Any:
        if not isinstance(given, dict | Target):
            raise PydanticCustomError("no_target", 'should be an object such as {"max_accuracy_drop": 0.01}')
        return given

    @model_validator(mode="after")
    def _one_of_two(self) -> Target:
        if (self.max_accuracy_drop is None) == (self.max_error_increase is None):
            raise PydanticCustomError(
                "one_of_two",
                'give one of max_accuracy_drop and max_error_increase, such as {"max_accuracy_drop": 0.01}',
            )
        return self


def _densities(value: object) -> object:
    """Numbers with commas or as a JSON list, in any order, repeats allowed: descending, each once."""
    if isinstance(value, str):
        text = value.strip().removeprefix("[").removesuffix("]")
        value = [part for piece in text.split(",") if (part := piece.strip())]
    try:
        if not isinstance(value, list | tuple) or not value:
            raise ValueError
        descending = sorted({float(item) for item in value}, reverse=True)
    except (TypeError, ValueError, OverflowError):
        raise PydanticCustomError(
            "densities", "should be densities in (0, 1], with commas or as a JSON list: 0.5,0.2,0.1"
        ) from None
    if len(descending) > MOST_STOPS:
        raise PydanticCustomError(
            "too_many_stops",
            "{count} densities are too many, {most} are the most; each takes its own fine-tuning",
            {"count": len(descending), "most": MOST_STOPS},
        )
    return descending


Frontier = Annotated[tuple[Density, ...], BeforeValidator(_densities)]
"""Densities to stop at, descending."""


def stop_name(density: float) -> str:
    """The name of the model of a density of a frontier, without its ending: `models/density-0.05`."""
    return f"models/density-{density:.12g}"
