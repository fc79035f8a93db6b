import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prune_engine import typography
from prune_engine.typography import MINUS, THIN


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, f"1{THIN}000"), (-1234567, f"{MINUS}1{THIN}234{THIN}567")],
)
def test_counts_have_a_thin_space_between_thousands(number: int, text: str) -> None:
    assert typography.count(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (0.31044, "0.310"),
        (12.345, "12.3"),
        (123456.0, f"123{THIN}456"),
        (-2.5, f"{MINUS}2.50"),
        (1.5e9, "1.50e9"),
        (2e-7, "2.00e-7".replace("-", MINUS)),
        (math.nan, "NaN"),
        (-math.inf, f"{MINUS}∞"),
    ],
)
def test_significant_digits(number: float, text: str) -> None:
    assert typography.significant(number) == text


@pytest.mark.parametrize(
    ("fraction", "text"), [(1.0, "1"), (0.1, "0.1"), (0.0015, "0.0015"), (0.112499, "0.1125"), (0.0, "0")]
)
def test_a_density_has_no_superfluous_zeros(fraction: float, text: str) -> None:
    assert typography.density(fraction) == text


@pytest.mark.parametrize(
    ("number", "text"), [(9999, f"9{THIN}999"), (40551234, f"40.6{THIN}M"), (999_999, f"1.00{THIN}M")]
)
def test_large_counts_have_an_si_prefix(number: int, text: str) -> None:
    assert typography.large(number) == text


@pytest.mark.parametrize(
    ("number", "text"), [(512, f"512{THIN}B"), (1000, f"1.00{THIN}kB"), (1_093_000, f"1.09{THIN}MB")]
)
def test_sizes_are_in_si_units(number: int, text: str) -> None:
    assert typography.size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.312, f"312{THIN}ms"),
        (59.96, f"1{THIN}min 00{THIN}s"),
        (192, f"3{THIN}min 12{THIN}s"),
        (3725, f"1{THIN}h 02{THIN}min"),
    ],
)
def test_durations_read_like_a_person_says_them(seconds: float, text: str) -> None:
    assert typography.duration(seconds) == text


def test_a_change_that_rounds_to_nothing_has_no_direction() -> None:
    assert typography.signed(-0.004, 2) == "±0.00"
    assert typography.signed(-0.64, 2) == f"{MINUS}0.64"
    assert typography.signed(0.64, 2) == "+0.64"


def test_characters_that_reorder_or_break_text_are_replaced() -> None:
    assert typography.clean("a\u202eb\x00c\ud800d\n") == "a\ufffdb\ufffdc\ufffdd\ufffd"
    assert typography.clean("重み слой 🦊") == "重み слой 🦊"


@given(st.text(), st.integers(min_value=3, max_value=60))
def test_a_shortened_name_fits_and_keeps_both_ends(name: str, width: int) -> None:
    shown = typography.shorten(name, width)
    assert len(shown) <= width
    assert shown[:1] == typography.clean(name)[:1]
    assert shown[-1:] == typography.clean(name)[-1:]
    shown.encode()


@given(st.floats(allow_nan=False, allow_infinity=False, width=32), st.integers(min_value=1, max_value=6))
def test_rounding_stays_within_the_digits_asked_for(number: float, digits: int) -> None:
    text = typography.significant(number, digits).replace(MINUS, "-").replace(THIN, "")
    assert float(text) == pytest.approx(number, rel=0.5000001 * 10.0 ** (1 - digits), abs=1e-300)
