"""The gated weights of a run as units that are kept or go, and how many of each layer's there may be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from prune_engine.errors import SpecError
from prune_engine.gates.fitting import MatrixWeight
from prune_engine.granularity import Blocks, Granularity, Patterns, SingleWeights

Bounds = tuple[float | None, float | None]
"""The least and the most density of a layer; None: no bound."""


@dataclass(frozen=True)
class Layer:
    """A gated weight.

    Attributes:
        units: how many it is cut into.
        least, most: how many of them are kept, at least and at most.
        outputs: units without which some of its outputs have no weight at all.
        bounds: the densities that were asked for.
    """

    name: str
    units: int
    least: int
    most: int
    outputs: int
    bounds: Bounds = (None, None)


@dataclass(frozen=True)
class Layout:
    """The gated weights, layer after layer, as units of equal size.

    A unit is a weight, a block, or for n:m a group of m; `weights` is in the order of the flat parameters.

    Attributes:
        bounded: whether a layer has bounds of its own, beyond that it does not vanish.
    """

    granularity: Granularity
    layers: tuple[Layer, ...]
    weights: tuple[MatrixWeight, ...] = ()
    bounded: bool = False

    @property
    def size(self) -> int:
        """Weights of a unit."""
        if isinstance(self.granularity, Patterns):
            return self.granularity.m
        return self.granularity.size if isinstance(self.granularity, Blocks) else 1

    @property
    def units(self) -> int:
        """Units of all layers."""
        return sum(layer.units for layer in self.layers)

    @property
    def prunable(self) -> int:
        """Weights of all layers."""
        return self.units * self.size

    @property
    def plain(self) -> bool:
        """Whether single weights are kept wherever they are."""
        return isinstance(self.granularity, SingleWeights) and not self.bounded

    @property
    def fewest(self) -> int:
        """Units that must be kept: no layer vanishes, and the last one can reach all of its outputs."""
        return max(sum(layer.least for layer in self.layers), self.layers[-1].outputs, 1)

    @property
    def smallest_density(self) -> float:
        """The smallest density that can be asked for; of n:m the only one."""
        if isinstance(self.granularity, Patterns):
            return self.granularity.density
        return self.fewest / self.units

    def kept(self, density: float) -> int:
        """Weights that are kept: `round(density * units)` units, of n:m n of every group.

        Raises:
            SpecError: too few to keep every layer and every output alive, or not what the bounds allow.
        """
        if isinstance(self.granularity, Patterns):
            return self.units * self.granularity.n
        kept = round(density * self.units)
        if kept < self.fewest:
            raise SpecError(f"density: {self._too_few(density, kept)}", param="density")
        most = sum(layer.most for layer in self.layers)
        if kept > most:
            raise SpecError(
                f"layer_density: its bounds keep {self._counted(most)} at most, and density {density:g} is "
                f"{self._counted(kept)}; with them the density can be {_up(self.smallest_density)} to "
                f"{_down(most / self.units)}",
                param="layer_density",
            )
        return kept * self.size

    def _too_few(self, density: float, kept: int) -> str:
        last, least = self.layers[-1], sum(layer.least for layer in self.layers)
        if kept < 1:
            why = "none"
        elif least == self.fewest:
            bound = "the bounds of layer_density ask for" if self.bounded else "each layer must keep one:"
            why = f"{self._counted(kept)}, and {bound} {least} in {len(self.layers)} layers"
        else:
            reach = f"the outputs of the last layer, '{last.name}', need {last.outputs}"
            why = f"{self._counted(kept)}, and {reach}"
        return (
            f"{density:g} of {self._counted(self.units, 'prunable ')} keeps {why}; "
            f"the smallest density that this model can have is {_up(self.smallest_density)}"
        )

    def _counted(self, units: int, which: str = "") -> str:
        name = f"blocks of {self.granularity}" if isinstance(self.granularity, Blocks) else "weights"
        return f"{units} {which}{name}"


def lay_out(
    weights: Sequence[MatrixWeight],
    names: Sequence[str],
    granularity: Granularity,
    bounds: Sequence[Bounds] | None = None,
) -> Layout:
    """The layout of weights that all fit `granularity` (see `fits`).

    Args:
        weights: in the order of the flat parameters.
        names: of the weights.
        granularity: what is kept or goes as one.
        bounds: for each weight; None: none has any. A layer keeps a unit at least, unless its least density
            or its most is given as 0.
    """
    layout = Layout(granularity, (), tuple(weights))
    given = [(None, None)] * len(weights) if bounds is None else bounds
    layers = []
    for weight, name, bound in zip(weights, names, given, strict=True):
        units = math.prod(weight.shape) // layout.size
        least, most = _in_units(bound, units)
        outputs = _needed(weight, granularity) if least else 0
        layers.append(Layer(name, units, least, most, outputs, bound))
    bounded = any(bound != (None, None) for bound in given)
    return Layout(granularity, tuple(layers), tuple(weights), bounded)


def single_weights(sizes: Sequence[int]) -> Layout:
    """A layout of single weights without bounds, for weights of so many elements."""
    return Layout(SingleWeights(), tuple(Layer("", size, 1, size, 0) for size in sizes))


def _in_units(bound: Bounds, units: int) -> tuple[int, int]:
    least, most = bound
    may_vanish = least == 0.0 or most == 0.0
    fewest = max(round((least or 0.0) * units), 0 if may_vanish else 1)
    return fewest, units if most is None else max(round(most * units), fewest)


def _needed(weight: MatrixWeight, granularity: Granularity) -> int:
    """Units that reach all outputs: neurons, channels, or features of an embedding."""
    count = weight.shape[weight.output_axis]
    side = granularity.rows if isinstance(granularity, Blocks) else 1
    if weight.kind == "Embedding":
        count = math.prod(weight.shape) // max(count, 1)
        side = granularity.columns if isinstance(granularity, Blocks) else 1
    return -(-count // side)


def _up(density: float) -> str:
    """To three digits, not below."""
    return f"{_rounded(density, math.ceil):.3g}"


def _down(density: float) -> str:
    """To three digits, not above."""
    return f"{_rounded(density, math.floor):.3g}"


def _rounded(density: float, towards: object) -> float:
    scale = 10.0 ** (2 - math.floor(math.log10(density)))
    value = density * scale
    whole = round(value) if abs(value - round(value)) < 1e-9 * value else towards(value)  # type: ignore[operator]
    return whole / scale
