"""In which units weights are kept: single ones, n of every m, or blocks. Light: no torch, no onnx."""

from __future__ import annotations

import re
from dataclasses import dataclass

LARGEST_GROUP = 256
LARGEST_SIDE = 1024


@dataclass(frozen=True)
class SingleWeights:
    """Each weight is kept or goes by itself."""

    def __str__(self) -> str:
        return "weight"


@dataclass(frozen=True)
class Patterns:
    """Of every `m` weights in a row along the inputs, `n` are kept (2:4 and the like)."""

    n: int
    m: int

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"

    @property
    def density(self) -> float:
        """The density of every layer, and so of all."""
        return self.n / self.m


@dataclass(frozen=True)
class Blocks:
    """Blocks of `rows` outputs by `columns` inputs are kept or go as a whole."""

    rows: int
    columns: int

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}"

    @property
    def size(self) -> int:
        """Weights of a block."""
        return self.rows * self.columns


Granularity = SingleWeights | Patterns | Blocks

SINGLE = SingleWeights()


def parse_granularity(text: str) -> Granularity:
    """`weight`, `n:m` such as `2:4`, or `RxC` such as `16x16` (outputs by inputs).

    Raises:
        ValueError: it is none of these; the message says what is possible.
    """
    said = text.strip().lower()
    if said == "weight":
        return SingleWeights()
    found = re.fullmatch(r"(\d{1,4})([:x])(\d{1,4})", said)
    if found is None:
        raise ValueError(
            "should be 'weight', n:m (2:4 keeps 2 of every 4 inputs) or RxC (16x16 keeps whole blocks "
            "of 16 outputs by 16 inputs)"
        )
    one, other = int(found[1]), int(found[3])
    if found[2] == ":":
        if not 1 <= one < other <= LARGEST_GROUP:
            raise ValueError(
                f"{said} is no pattern; n:m keeps n of m, so 1 <= n < m, and m is at most {LARGEST_GROUP}"
            )
        return Patterns(one, other)
    if not (1 <= one <= LARGEST_SIDE and 1 <= other <= LARGEST_SIDE):
        raise ValueError(f"{said} is no block; both sides are 1 to {LARGEST_SIDE}")
    return Blocks(one, other)
