"""The reference pages, read: the tables that follow a line `<!-- fields of CLASS -->`."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def tables(page: str) -> dict[str, list[list[str]]]:
    """Class name to its table's rows, each a list of cells."""
    found: dict[str, list[list[str]]] = {}
    for match in re.finditer(
        r"<!-- fields of (\w+) -->\n\n\|[^\n]*\n\|[-|]+\|\n((?:\|[^\n]*\n)+)", (DOCS / page).read_text()
    ):
        lines = match[2].splitlines()
        found[match[1]] = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return found


def names(rows: list[list[str]]) -> list[str]:
    """The first cells, without their backticks."""
    return [row[0].strip("` ") for row in rows]
