"""When a message is sent again: later and later, and never by everybody at the same moment."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Final

_JITTER: Final = 0.2
_LONGEST: Final = 24 * 3600.0


def seconds_until(retries: Sequence[float], tries: int, headers: Mapping[str, str]) -> float | None:
    """How long to wait after a failed attempt; None: it was the last one.

    Args:
        retries: seconds before each attempt, the first one included.
        tries: attempts that have been made.
        headers: of the answer; its `Retry-After` in seconds makes the wait longer, up to a day.
    """
    if tries >= len(retries):
        return None
    asked = headers.get("retry-after", "")
    least = min(float(asked), _LONGEST) if asked.isascii() and asked.isdigit() else 0.0
    return max(least, retries[tries] * random.uniform(1.0, 1.0 + _JITTER))  # noqa: S311 - no secret
