"""Whether a weight can be cut into the units of a granularity."""

from __future__ import annotations

from typing import Protocol

from prune_engine.granularity import Blocks, Granularity, Patterns, SingleWeights


class MatrixWeight(Protocol):
    """A weight seen as a matrix of outputs by inputs, one such matrix at each place of a kernel."""

    @property
    def kind(self) -> str:
        """Operator: Conv, Gemm, Embedding, ..."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight."""

    @property
    def output_axis(self) -> int:
        """Axis of the shape that counts output neurons or channels; of an embedding, rows."""

    @property
    def input_axis(self) -> int | None:
        """Axis of the shape that counts inputs; of an embedding, features. None: none does."""

    @property
    def groups(self) -> int:
        """Groups of a convolution, each with outputs and inputs of its own."""


def fits(weight: MatrixWeight, granularity: Granularity) -> str | None:
    """None where `weight` can be cut into whole units of `granularity`, else the reason why it cannot.

    Units lie within a convolution's group: its channels see no others.
    """
    if isinstance(granularity, SingleWeights):
        return None
    if weight.input_axis is None:
        return "no axis of it counts the inputs of every node that uses it"
    outputs, inputs = weight.shape[weight.output_axis], weight.shape[weight.input_axis]
    split_inputs = weight.kind == "ConvTranspose"
    outputs, inputs = (
        outputs if split_inputs else outputs // weight.groups,
        inputs // weight.groups if split_inputs else inputs,
    )
    named = _named(weight)
    if isinstance(granularity, Patterns):
        if inputs % granularity.m:
            return f"its {inputs} {named[1]} are not a multiple of {granularity.m}"
    elif isinstance(granularity, Blocks):
        wrong = [
            f"its {count} {name} are not a multiple of {side}"
            for count, name, side in (
                (outputs, named[0], granularity.rows),
                (inputs, named[1], granularity.columns),
            )
            if count % side
        ]
        if wrong:
            return " and ".join(wrong)
    return None


def _named(weight: MatrixWeight) -> tuple[str, str]:
    """What outputs and inputs are called."""
    if weight.kind == "Embedding":
        return "entries", "features"
    within = " of a group" if weight.groups > 1 else ""
    if weight.kind in ("Conv", "ConvTranspose"):
        return f"output channels{within}", f"input channels{within}"
    return "outputs", "inputs"
