"""The architecture pages know every module, name none that is gone, and draw the states as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jobs.record import ENDED, TRANSITIONS
from tests.docs.pages import DOCS, ROOT

ROOMS = {
    "engine.md": "prune_engine",
    "jobs.md": "jobs",
    "service.md": "service",
    "worker.md": "worker",
    "command-line.md": "prunery",
}
rooms = pytest.mark.parametrize(("page", "package"), ROOMS.items(), ids=ROOMS)


def in_the_table(page: str) -> set[str]:
    """The modules and folders that the first column of the page's first table names."""
    text = (DOCS / "architecture" / page).read_text()
    table = text[text.index("| module |") :].split("\n\n")[0]
    return {
        name for line in table.splitlines()[2:] for name in re.findall(r"`([^`]+)`", line.split(" | ")[0])
    }


def there(package: Path) -> set[str]:
    """The modules and subpackages of a package, as the pages name them."""
    modules = {path.name for path in package.glob("*.py") if not path.name.startswith("__")}
    return modules | {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}


@rooms
def test_every_module_has_its_line(page: str, package: str) -> None:
    assert sorted(there(ROOT / package) - in_the_table(page)) == [], (
        f"describe them in docs/architecture/{page}"
    )


@rooms
def test_no_line_is_about_a_module_that_is_gone(page: str, package: str) -> None:
    assert sorted(in_the_table(page) - there(ROOT / package)) == [], (
        f"docs/architecture/{page} is out of date"
    )


def test_the_picture_of_the_states_is_the_table_of_moves() -> None:
    text = (DOCS / "architecture" / "README.md").read_text()
    picture = text[text.index("stateDiagram") :].split("```")[0]
    drawn = {(start, end) for start, end in re.findall(r"(\w+) --> (\w+)", picture)}
    assert drawn == {(start.value, end.value) for start, ends in TRANSITIONS.items() for end in ends}
    ends = set(re.findall(r"(\w+) --> \[\*\]", picture))
    assert ends == {status.value for status in ENDED}


def test_every_page_is_reached_from_the_first() -> None:
    reached: set[Path] = set()
    todo = [DOCS / "index.md"]
    while todo:
        page = todo.pop()
        if page in reached or not page.exists():
            continue
        reached.add(page)
        targets = re.findall(r"\]\(([^)#:]+\.md)(?:#[^)]*)?\)", page.read_text())
        todo += [(page.parent / target).resolve() for target in targets]
    assert sorted(str(page.relative_to(DOCS)) for page in set(DOCS.rglob("*.md")) - reached) == []
