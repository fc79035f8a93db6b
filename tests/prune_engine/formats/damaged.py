"""Files as a bad disk or a cut line leaves them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def damaged(data: bytes, trials: int, most: int = 5) -> Iterator[bytes]:
    """`trials` versions of a file, the same every time: a third cut off, the others with one to `most` bits
    flipped."""
    rng = np.random.default_rng(0)
    for trial in range(trials):
        broken = bytearray(data)
        if trial % 3 == 0:
            broken = broken[: int(rng.integers(1, len(data)))]
        else:
            for place in rng.integers(0, len(data), 1 + trial % most):
                broken[place] ^= 1 << int(rng.integers(8))
        yield bytes(broken)
