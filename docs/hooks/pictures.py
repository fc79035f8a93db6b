"""Puts rendered pictures in the place of mermaid blocks, so that the built pages need no script.

A block's picture is `pictures/<its accTitle>.svg` beside the page; its last line says of which text it is.
After a change of a block, render it anew (mermaid-cli and a Chromium are needed for that alone):

    python docs/hooks/pictures.py path/to/mmdc [its puppeteer configuration]
"""

from __future__ import annotations

import hashlib
import logging
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)
log = logging.getLogger("mkdocs.hooks.pictures")


def title(block: str) -> str:
    """The block's accTitle: the picture's name, and its text for those who do not see it."""
    found = re.search(r"^\s*accTitle:\s*(.+)$", block, re.MULTILINE)
    return found[1].strip() if found else "untitled"


def file_name(block: str) -> str:
    """The picture's path from the page's folder."""
    return f"pictures/{re.sub(r'[^a-z0-9]+', '-', title(block).lower())}.svg"


def last_line(block: str) -> str:
    """What the picture of this very text ends with."""
    return f"<!-- of the text {hashlib.sha256(block.encode()).hexdigest()} -->"


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """What mkdocs calls for every page."""
    folder = (DOCS / page.file.src_uri).parent

    def picture(match: re.Match[str]) -> str:
        path = folder / file_name(match[1])
        if not path.is_file() or not path.read_text().rstrip().endswith(last_line(match[1])):
            log.warning(
                "%s: the picture %s is not of its text; see docs/hooks/pictures.py", page.file.src_uri, path
            )
            return match[0]
        return f"![{title(match[1])}]({file_name(match[1])}){{ .picture }}"

    return BLOCK.sub(picture, markdown)


def render(mmdc: str, *puppeteer: str) -> None:
    """Render every picture whose text has changed."""
    for page in sorted(DOCS.rglob("*.md")):
        for block in BLOCK.findall(page.read_text()):
            target = page.parent / file_name(block)
            if target.is_file() and target.read_text().rstrip().endswith(last_line(block)):
                continue
            with tempfile.TemporaryDirectory() as folder:
                source, picture = Path(folder, "block.mmd"), Path(folder, "block.svg")
                source.write_text(block)
                options = ["-c", str(Path(__file__).with_name("mermaid.json")), "-b", "white"]
                options += ["-p", *puppeteer] if puppeteer else []
                subprocess.run([mmdc, "-i", str(source), "-o", str(picture), *options], check=True)
                target.parent.mkdir(exist_ok=True)
                target.write_text(f"{picture.read_text().rstrip()}\n{last_line(block)}\n")


if __name__ == "__main__":
    render(*sys.argv[1:])
