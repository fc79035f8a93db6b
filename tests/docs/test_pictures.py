import importlib.util
import re
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from tests.docs.pages import DOCS


def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pictures", DOCS / "hooks" / "pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PICTURES = hook()
BLOCKS = [
    (page, block) for page in sorted(DOCS.rglob("*.md")) for block in PICTURES.BLOCK.findall(page.read_text())
]


@pytest.mark.parametrize(("page", "block"), BLOCKS, ids=[PICTURES.title(block) for _, block in BLOCKS])
def test_each_picture_is_of_its_text_and_needs_nothing_else(page: Path, block: str) -> None:
    svg = (page.parent / PICTURES.file_name(block)).read_text()
    assert svg.rstrip().endswith(PICTURES.last_line(block)), "render it anew: docs/hooks/pictures.py says how"
    ElementTree.fromstring(svg)
    assert "<script" not in svg
    assert not re.search(r"(href|src)=[\"'](?!#)|@import|url\((?!#)", svg)


def test_no_picture_is_left_over() -> None:
    wanted = {(page.parent / PICTURES.file_name(block)).resolve() for page, block in BLOCKS}
    assert {path.resolve() for path in DOCS.rglob("pictures/*.svg")} == wanted
