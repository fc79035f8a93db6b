"""What is asked of a pruning run: `PruneSpec`. Light: no torch, no onnx."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from prune_engine.errors import SpecError

Auto = Literal["auto"]
Method = Literal["gumbel", "magnitude"]
Effort = Literal["quick", "standard", "thorough"]
Task = Literal["auto", "classification", "regression", "distillation"]
Loss = Literal["auto", "cross_entropy", "mse", "mae"]
Layout = Literal["as_is", "nchw", "nhwc", "flat", "flat_nhwc"]

InputDtype = Literal["float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]
InputSpec = tuple[tuple[Annotated[int, Field(ge=1, le=1_000_000)] | str | None, ...], InputDtype]
"""A shape with the batch axis first, null or a name where a size may vary, and a dtype."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class Preprocess(BaseModel):
    """How raw data becomes the model's input: `(x * scale - mean) / std`, then the layout.

    `mean` and `std` hold one value, or one per channel (images) or column (tables, flat images). `flat`
    images have their channels first (as `torch.flatten` leaves them), `flat_nhwc` last. Grey becomes RGB, or
    RGB grey, before the arithmetic, where the model's input asks for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: Positive = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[Positive, ...] = (1.0,)
    layout: Layout = "as_is"


def _from_json(value: object) -> object:
    """Form fields and command-line options carry an object as JSON text."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        return json.loads(value)
    return value


class PruneSpec(BaseModel):
    """A pruning run as its user asks for it. Only `density` has no default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    density: Annotated[float, Field(gt=0.0, le=1.0, allow_inf_nan=False)] = Field(
        description="Share of the prunable weights to keep, in (0, 1].", examples=[0.05]
    )
    method: Method = Field(
        "gumbel", description="`gumbel`: learned gates. `magnitude`: gradual magnitude pruning."
    )
    task: Task = Field(
        "auto", description="`auto`: from the labels; without labels the dense model is distilled."
    )
    loss: Loss = Field(
        "auto", description="`auto`: cross-entropy for classes, mean squared error for numbers."
    )
    effort: Effort = Field("standard", description="How long to train where `epochs` is `auto`.")
    epochs: Auto | Annotated[int, Field(ge=1, le=100_000)] = Field(
        "auto",
        description="Passes over the training rows, pruning and fine-tuning together. "
        "At density 1 `auto` is none: the model stays as it is, bit for bit.",
    )
    max_minutes: Positive | None = Field(
        None, description="Upper bound on the training time; the schedule is shortened to fit into it."
    )
    batch_size: Auto | Annotated[int, Field(ge=1, le=65_536)] = Field(
        "auto", description="Rows a training step."
    )
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = Field(0, description="Seed of every random choice.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="`auto`: CUDA where there is one.")
    preprocess: Annotated[Auto | Preprocess, BeforeValidator(_from_json)] = Field(
        "auto",
        description="`auto` tries the usual scalings and layouts on the dense model; "
        'or explicitly: `{"scale": 0.00392156862745098, "mean": [0.5], "std": [0.5], "layout": "nchw"}`.',
    )
    input_specs: Annotated[dict[str, InputSpec] | None, BeforeValidator(_from_json)] = Field(
        None,
        description="Shape and dtype of every input of a TorchScript model, where the data do not tell: "
        '`{"x": [[null, 3, 224, 224], "float32"]}`. Names are those of the arguments of `forward`.',
    )
    target_column: str | None = Field(
        None, description="Column of a .csv or .parquet file that holds the target; default: the last one."
    )
    max_length: Annotated[int, Field(ge=1, le=65_536)] = Field(
        128, description="Tokens a text is cut or padded to where a tokenizer is given."
    )
    holdout: Auto | Annotated[float, Field(gt=0.0, lt=1.0, allow_inf_nan=False)] = Field(
        "auto", description="Share of rows held out to measure with where the data has no test split."
    )
    learning_rate: Auto | Positive = Field("auto", description="Peak learning rate of the weights.")
    gate_learning_rate: Auto | Positive = Field("auto", description="Peak learning rate of the gate logits.")
    weight_decay: NotNegative = Field(0.0, description="Decoupled weight decay on the prunable weights.")
    distillation: Auto | Fraction = Field(
        "auto", description="Share of the loss that comes from the dense model's outputs (the teacher)."
    )
    distillation_temperature: Positive = Field(2.0, description="Temperature of the teacher's classes.")
    gate_prior: Auto | NotNegative = Field(
        "auto",
        description="Weight of the magnitude prior in the initial gate logits; 0: all gates start equal.",
    )
    gate_noise: Auto | NotNegative = Field(
        "auto", description="Scale of the logistic (two-class Gumbel) noise."
    )
    gate_temperature: Auto | Positive = Field(
        "auto", description="Temperature of the straight-through gradient."
    )
    anneal_until: Auto | Fraction = Field(
        "auto", description="Share of the training after which the density has reached its target."
    )
    fix_mask_at: Auto | Fraction = Field(
        "auto",
        description="Share of the training after which the mask is fixed (top k) and only weights train.",
    )


def parse_spec(fields: dict[str, Any]) -> PruneSpec:
    """Check `fields` and return the spec.

    Strings are read as numbers where a number is asked for, as form fields and command-line options need it.

    Raises:
        SpecError: a field is unknown, missing or out of range; `param` names the first such field.
    """
    try:
        return PruneSpec.model_validate(fields)
    except ValidationError as error:
        raise _spec_error(error) from None


def _spec_error(error: ValidationError) -> SpecError:
    """One sentence that lists every wrong field; of a union's many complaints the last is kept."""
    complaints: dict[str, str] = {}
    for item in error.errors(include_url=False, include_context=False):
        field = str(item["loc"][0]) if item["loc"] else "spec"
        if item["type"] == "extra_forbidden" and len(item["loc"]) == 1:
            fields = ", ".join(PruneSpec.model_fields)
            complaints[field] = f"{field}: unknown field; known fields are {fields}"
        elif item["type"] == "missing" and len(item["loc"]) == 1:
            complaints[field] = f"{field}: required"
        else:
            known = (*PruneSpec.model_fields, *Preprocess.model_fields)
            where = ".".join(str(part) for part in item["loc"] if part in known)
            said = str(item["msg"]).replace("Input should be", "should be")
            complaints[field] = f"{where or field}: {said} (got {str(item['input'])[:80]!r})"
    return SpecError("; ".join(complaints.values()), param=next(iter(complaints)))
