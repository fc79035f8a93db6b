"""How numbers and strangers' names are set for people. Light: no torch, no matplotlib.

Counts have a narrow no-break space between thousands, signs are real minus signs, units are SI.
"""

from __future__ import annotations

import math
import unicodedata

THIN = "\u202f"  # narrow no-break space: separates thousands, and a number from its unit
MINUS = "\u2212"
NOT_MEASURED = "not measured"

_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")


def clean(text: str) -> str:
    """`text` as it can be shown: control, surrogate and direction-changing characters become U+FFFD.

    Names of files and layers come from strangers; a right-to-left override would reorder the words around it,
    and a control character makes an SVG file ill-formed.
    """
    return "".join(
        "\ufffd"
        if unicodedata.category(char) in ("Cc", "Cs", "Cn") or char in _BIDI or char in "\ufffe\uffff"
        else char
        for char in text
    )


def shorten(text: str, width: int) -> str:
    """`text` in at most `width` characters; an ellipsis replaces its middle, as a name's ends tell most."""
    text = clean(text)
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def count(number: float) -> str:
    """1234567 -> `1 234 567`."""
    return f"{number:,.0f}".replace(",", THIN).replace("-", MINUS)


def significant(number: float, digits: int = 3) -> str:
    """`number` with `digits` significant digits, without an exponent where a person would not write one."""
    if not math.isfinite(number):
        return {math.inf: "∞", -math.inf: f"{MINUS}∞"}.get(number, "NaN")
    if number == 0:
        return "0"
    mantissa, _, exponent = f"{number:.{digits - 1}e}".partition("e")  # rounded first: 999999 is 1.00e6
    magnitude = int(exponent)
    if not -5 <= magnitude < 6:
        return f"{mantissa}e{magnitude}".replace("-", MINUS)
    decimals = digits - 1 - magnitude
    return f"{number:.{decimals}f}".replace("-", MINUS) if decimals > 0 else count(number)


def density(fraction: float) -> str:
    """A density without superfluous zeros, at most four significant digits: `0.1`, `0.0015`, `0.1125`."""
    text = significant(fraction, 4)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def large(number: float) -> str:
    """An SI-prefixed count with three digits: 40551234 -> `40.6 M`; below 10 000 the whole count."""
    if abs(number) < 10_000:
        return count(number)
    return _scaled(number, ("", f"{THIN}k", f"{THIN}M", f"{THIN}G", f"{THIN}T", f"{THIN}P"))


def tick(number: float) -> str:
    """`large` without superfluous zeros, for the round numbers of an axis: 1000000 -> `1 M`."""
    head, space, unit = large(number).rpartition(THIN)
    return f"{head.rstrip('0').rstrip('.') if '.' in head else head}{space}{unit}"


def size(count_of_bytes: int) -> str:
    """Bytes in SI units (1 kB = 1000 B): `1.09 MB`."""
    return _scaled(count_of_bytes, tuple(f"{THIN}{unit}" for unit in ("B", "kB", "MB", "GB", "TB")))


def milliseconds(value: float) -> str:
    """A latency in the unit that suits it: `612 µs`, `5.91 ms`, `1.20 s`."""
    if value < 1:
        return f"{significant(value * 1000)}{THIN}µs"
    return f"{significant(value)}{THIN}ms" if value < 1000 else f"{significant(value / 1000)}{THIN}s"


def duration(seconds: float) -> str:
    """A time a person waits: `310 ms`, `4.2 s`, `3 min 12 s`, `1 h 02 min`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}{THIN}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}{THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{THIN}min {rest:02d}{THIN}s"
    return f"{minutes // 60}{THIN}h {minutes % 60:02d}{THIN}min"


def signed(number: float, decimals: int) -> str:
    """`+0.12`, `−0.64`; a change that rounds to nothing is `±0.00`."""
    text = f"{abs(number):.{decimals}f}"
    if float(text) == 0:
        return f"±{text}"
    return ("+" if number > 0 else MINUS) + text


def measured(value: float, unit: str) -> str:
    """A figure of merit: percentages with two decimals, everything else with four significant digits."""
    if unit == "%":
        return f"{value:.2f}{THIN}%"
    return f"{significant(value, 4)}{THIN}{clean(unit)}" if unit else significant(value, 4)


def _scaled(number: float, units: tuple[str, ...]) -> str:
    step = 0
    while step < len(units) - 1 and abs(number) >= 999.5:
        number /= 1000
        step += 1
    return (count(number) if step == 0 else significant(number)) + units[step]
