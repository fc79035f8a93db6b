"""Which of the forms that there are a client would rather have, by its `Accept` header (RFC 9110, 12.5.1)."""

from __future__ import annotations


def prefers(accept: str, *offered: str) -> str:
    """The offered media type that `accept` ranks highest; the last one offered where it does not choose.

    A type counts only when it is named; `*/*` leaves the choice to us.
    """
    best, best_quality = offered[-1], 0.0
    ranked = _qualities(accept)
    for kind in reversed(offered):
        quality = ranked.get(kind, 0.0)
        if quality > best_quality:
            best, best_quality = kind, quality
    return best


def _qualities(accept: str) -> dict[str, float]:
    ranked: dict[str, float] = {}
    for item in accept.split(",")[:32]:
        kind, *parameters = (part.strip() for part in item.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 0.0
        ranked[kind.lower()] = quality
    return ranked
