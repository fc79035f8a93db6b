"""docs/errors.md lists every code that there is, with the status that it is answered with, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import jobs.errors
import prune_engine.errors
import service.errors
import worker.outputs
from prune_engine.errors import PruneError
from service.problems import status_of

ROOT = Path(__file__).resolve().parents[2]
MODULES = {module.__name__ for module in (prune_engine.errors, jobs.errors, service.errors, worker.outputs)}
# A code that is no class's: the child, the worker and the sweeper say it of a run.
LITERAL = re.compile(r'(?:\bcode="|\bfail\("|_fail(?:ure|ed)\([^"]*")([a-z_]+)"')


def tree(root: type[PruneError] = PruneError) -> Iterator[type[PruneError]]:
    yield root
    for kind in root.__subclasses__():
        yield from tree(kind)


def classes() -> list[type[PruneError]]:
    return [kind for kind in tree() if kind.__module__ in MODULES]


def literal_codes() -> set[str]:
    folders = [ROOT / "worker", ROOT / "jobs"]
    sources = [ROOT / "prune_engine" / "child.py", *(path for f in folders for path in f.glob("*.py"))]
    return {code for source in sources for code in LITERAL.findall(source.read_text(encoding="utf-8"))}


def documented() -> dict[str, int]:
    rows = re.findall(
        r"^\| `([a-z_]+)` \| (\d{3}) \|", (ROOT / "docs" / "errors.md").read_text(encoding="utf-8"), re.M
    )
    assert len(rows) == len({code for code, _ in rows}), "a code is listed twice"
    return {code: int(status) for code, status in rows}


def test_every_code_is_documented_and_no_other() -> None:
    assert set(documented()) == {kind.code for kind in classes()} | literal_codes()


def test_the_documented_status_is_the_one_that_is_sent() -> None:
    for kind in classes():
        assert documented()[kind.code] == status_of(kind("what was wrong")), kind


def test_a_code_belongs_to_one_kind_of_error() -> None:
    codes = [kind.code for kind in classes() if kind.code != "internal_error"]
    assert len(codes) == len(set(codes))
