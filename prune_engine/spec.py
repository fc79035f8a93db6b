"""What is asked of a pruning run: `PruneSpec`. Light: no torch, no onnx."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from prune_engine.errors import SpecError
from prune_engine.goals import Density, Frontier, Target
from prune_engine.granularity import Granularity, parse_granularity
from prune_engine.granularity import Patterns as GroupPatterns
from prune_engine.refusals import refusal

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
MOST_MINUTES = 366 * 24 * 60
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
        try:
            return json.loads(value)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        except ValueError as error:
            raise PydanticCustomError("no_json", "is no JSON: {why}", {"why": str(error)}) from None
    return value


def _patterns(value: object) -> object:
    """Form fields and command-line options carry patterns as a JSON list, with commas, or a single one."""
    if not isinstance(value, str):
        return value
    try:
        listed = json.loads(value)
    except (ValueError, RecursionError):
        listed = None
    if isinstance(listed, list) and all(isinstance(item, str) for item in listed):
        return listed
    return [part for piece in value.split(",") if (part := piece.strip())]


Pattern = Annotated[str, Field(min_length=1, max_length=1000)]
Patterns = Annotated[tuple[Pattern, ...], Field(max_length=1000), BeforeValidator(_patterns)]


def _granularity(value: object) -> object:
    return str(parse_granularity(value)) if isinstance(value, str) else value


def _least_and_most(value: object) -> object:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (value, value) if is_number else value


_Bounds = tuple[Fraction | None, Fraction | None]
LayerDensity = Annotated[_Bounds, BeforeValidator(_least_and_most, json_schema_input_type=_Bounds | Fraction)]
"""The least and the most density of a layer, None: no bound; one number is both."""


GOALS = ("density", "target", "frontier")


class PruneSpec(BaseModel):
    """A pruning run as its user asks for it.

    One of `density`, `target` and `frontier` is needed; all else has a default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    density: Density | None = Field(
        None,
        description="Share of the prunable weights to keep, in (0, 1]. This, or `target`, or `frontier`.",
        examples=[0.05],
    )
    target: Annotated[Target | None, BeforeValidator(_from_json)] = Field(
        None,
        description="Instead of `density`: the smallest one that loses no more than this on held-out rows, "
        '`{"max_accuracy_drop": 0.01}` (a fraction) or `{"max_error_increase": 0.05}` (relative).',
        examples=[{"max_accuracy_drop": 0.01}],
    )
    frontier: Frontier | None = Field(
        None,
        description="Instead of `density`: several, one model at each from one training run, and the curve. "
        "`0.5,0.2,0.1` or a JSON list.",
        examples=[[0.5, 0.2, 0.1, 0.05, 0.02]],
    )
    granularity: Annotated[str, BeforeValidator(_granularity)] = Field(
        "weight",
        description="What is kept or goes as one: `weight`; `n:m`, n of every m weights along the inputs "
        "(`2:4`); `RxC`, blocks of R outputs by C inputs (`16x16`). Layers that do not divide are left out.",
        examples=["2:4", "4x1"],
    )
    layer_density: Annotated[dict[str, LayerDensity], BeforeValidator(_from_json)] = Field(
        {},
        description="Bounds on the density of single layers: "
        '`{"conv1*": [0.2, null], "fc1.weight": [null, 0.05], "head*": 0.5}`, least and most by glob '
        "pattern, or one number that is both.",
        examples=[{"conv1*": [0.2, None], "head*": 0.5}],
    )
    include: Patterns = Field(
        (),
        description="Names of the weights to prune, or of the nodes that use them, as glob patterns; "
        "none: all. The others are trained and stay dense. `fc1*`, `conv?.weight`, or a JSON list.",
        examples=[["conv*", "fc1.weight"]],
    )
    exclude: Patterns = Field(
        (),
        description="Names of weights (or nodes) to leave dense, as glob patterns; wins over `include`.",
        examples=[["*head*"]],
    )
    train_weights: bool = Field(
        True,
        description="`false`: only the mask is learned; what is kept has the value that it came with, "
        "to the bit.",
    )
    init: Literal["given", "random"] = Field(
        "given",
        description="`given`: from the file's weights. `random`: from fresh weights, to train and prune at "
        "once.",
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
    max_minutes: Annotated[Positive, Field(le=MOST_MINUTES)] | None = Field(
        None,
        description="Upper bound on the training time, of a year at most; the schedule is shortened to fit "
        "into it.",
    )
    batch_size: Auto | Annotated[int, Field(ge=1, le=65_536)] = Field(
        "auto", description="Rows a training step."
    )
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = Field(0, description="Seed of every random choice.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="`auto`: CUDA where there is one.")
    gpus: Annotated[int, Field(ge=1, le=64)] = Field(
        1, description="GPUs that train together, each on a share of every batch."
    )
    augmentation: Literal["auto", "off"] = Field(
        "auto",
        description="`auto`: in trainings of more than five epochs images are moved by up to a 28th of their "
        "size, and half of them mirrored, while they are trained on: all where many weights are left, some "
        "where few are, as far as the dense model still knows them. `off`, also with `acceleration` `off`: "
        "rows stay.",
    )
    acceleration: Literal["auto", "off"] = Field(
        "auto",
        description="`auto`: bfloat16 and channels-last layouts where the processor has them and the model "
        "stands them, and on a GPU steps that are launched as a whole (CUDA graphs). `off`: plain float32 "
        "(on a GPU torch convolves in TensorFloat-32).",
    )
    renormalise: Literal["auto", "off"] = Field(
        "auto",
        description="`auto`: where a classifier's convolutions have biases and nothing normalises, they are "
        "computed with a BatchNorm while they are trained, which is folded back into them. `off`: never.",
    )
    preprocess: Annotated[Auto | Preprocess, BeforeValidator(_from_json)] = Field(
        "auto",
        description="`auto` tries the usual scalings and layouts on the dense model; "
        'or explicitly: `{"scale": 0.00392156862745098, "mean": [0.5], "std": [0.5], "layout": "nchw"}`.',
        examples=["auto", {"scale": 0.00392156862745098, "mean": [0.5], "std": [0.5], "layout": "nchw"}],
    )
    input_specs: Annotated[dict[str, InputSpec] | None, BeforeValidator(_from_json)] = Field(
        None,
        description="Shape and dtype of every input of a TorchScript model, where the data do not tell: "
        '`{"x": [[null, 3, 224, 224], "float32"]}`. Names are those of the arguments of `forward`.',
        examples=[{"x": [[None, 3, 224, 224], "float32"]}],
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

    @property
    def units(self) -> Granularity:
        """`granularity`, read."""
        return parse_granularity(self.granularity)

    @model_validator(mode="before")
    @classmethod
    def _patterns_have_a_density(cls, fields: Any) -> Any:
        """n:m says the density itself."""
        if not isinstance(fields, dict) or any(fields.get(goal) is not None for goal in GOALS):
            return fields
        try:
            units = parse_granularity(str(fields.get("granularity", "weight")))
        except ValueError as error:
            raise contradiction("granularity", str(error)) from None
        return {**fields, "density": units.density} if isinstance(units, GroupPatterns) else fields

    @model_validator(mode="after")
    def _one_goal(self) -> PruneSpec:
        given = [goal for goal in GOALS if getattr(self, goal) is not None]
        if not given:
            raise contradiction(
                "density",
                "required: the share of the weights to keep, in (0, 1]; or, instead of it, a target such as "
                '{"max_accuracy_drop": 0.01}, or a frontier such as [0.5, 0.2, 0.1]',
            )
        if len(given) > 1:
            raise contradiction(given[1], f"does not go with {given[0]}; give one of {', '.join(GOALS)}")
        return self

    @property
    def one_density(self) -> float:
        """The density of a run that has one.

        Raises:
            TypeError: it has a target or a frontier; `at` makes one with a density of it.
        """
        if self.density is None:
            raise TypeError("this spec has no single density")
        return self.density

    @property
    def densities(self) -> tuple[float, ...]:
        """Those that are asked for; a target asks for none."""
        return self.frontier or (() if self.density is None else (self.density,))

    def at(self, density: float) -> PruneSpec:
        """The same run with a single density."""
        return self.model_copy(update={"density": density, "target": None, "frontier": None})

    @model_validator(mode="after")
    def _granularity_goes_with_the_rest(self) -> PruneSpec:
        units = self.units
        if isinstance(units, GroupPatterns):
            if self.density is not None and abs(self.density - units.density) > 1e-3:
                raise contradiction(
                    "density", f"granularity {units} is density {units.density:.6g}; leave density out"
                )
            for goal in ("target", "frontier"):
                if getattr(self, goal) is not None:
                    raise contradiction(
                        goal, f"granularity {units} is density {units.density:.6g}; leave {goal} out"
                    )
            if self.layer_density:
                raise contradiction(
                    "layer_density", f"granularity {units} has density {units.density:.6g} in every layer"
                )
        for pattern, (least, most) in self.layer_density.items():
            if least is not None and most is not None and least > most:
                raise contradiction(
                    "layer_density", f"{pattern!r}: the least, {least:g}, is above the most, {most:g}"
                )
        return self

    @model_validator(mode="after")
    def _several_gpus_are_not_a_cpu(self) -> PruneSpec:
        if self.gpus > 1 and self.device == "cpu":
            raise contradiction("gpus", f"{self.gpus} does not go with device cpu; leave one of them out")
        return self

    @model_validator(mode="after")
    def _fixed_weights_are_not_trained(self) -> PruneSpec:
        if not self.train_weights:
            for name in ("learning_rate", "weight_decay", "fix_mask_at"):
                if getattr(self, name) != PruneSpec.model_fields[name].default:
                    raise contradiction(name, "with train_weights false no weight is trained; leave it out")
        return self


def has_goal(fields: Mapping[str, Any]) -> bool:
    """Whether the fields of a spec say how dense the result is to be, in one way or another."""
    if any(fields.get(goal) is not None for goal in GOALS):
        return True
    try:
        return isinstance(parse_granularity(str(fields.get("granularity", "weight"))), GroupPatterns)
    except ValueError:
        return True  # it will be refused for its granularity, which may well have had one


def with_density(fields: Mapping[str, Any], stand_in: float) -> dict[str, Any]:
    """The fields of a spec, with a density where they ask for none, nor for what stands instead of one."""
    return dict(fields) if has_goal(fields) else {**fields, "density": stand_in}


def contradiction(field: str, why: str) -> PydanticCustomError:
    """What a validator raises where `field` does not go with another one; `why` says with which."""
    return PydanticCustomError("contradiction", "{why}", {"field": field, "why": why})


def parse_spec(fields: dict[str, Any]) -> PruneSpec:
    """Check `fields` and return the spec.

    Strings are read as numbers where a number is asked for, as form fields and command-line options need it.

    Raises:
        SpecError: a field is unknown, missing or out of range; `param` names the first such field.
    """
    try:
        spec = PruneSpec.model_validate(fields)
    except ValidationError as error:
        raise refusal(error, PruneSpec.model_fields, Preprocess.model_fields) from None
    _check_text(spec)
    return spec


def _check_text(spec: PruneSpec) -> None:
    """That every text can be written down: JSON can spell halves of characters, which nothing else takes."""
    for field, value in spec.model_dump().items():
        try:
            json.dumps(value, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError as error:
            said = f"{error.object[error.start]!r} is half a character; send text as UTF-8"
            raise SpecError(f"{field}: {said}", param=field) from None
