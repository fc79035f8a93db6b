"""The report page in a real browser: it fits, it asks for nothing, and it complains about nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser

from prune_engine.page import render_html
from prune_engine.report import Report
from tests.browser import undisturbed
from tests.prune_engine.sample_report import HOSTILE_NAMES, sample_report, with_frontier, with_target

USUAL = sample_report()
REPORTS = {
    "five densities": with_frontier(USUAL, (0.5, 0.2, 0.1, 0.05, 0.02)),
    "one density of a frontier": with_frontier(USUAL, (0.1,)),
    "target": with_target(USUAL, met=True),
    "target not met": with_target(sample_report(metric="mae"), met=False),
    "usual": sample_report(),
    "three hundred layers": sample_report(layers=300, density=0.0015, sparse_everywhere=True),
    "bare": sample_report(layers=1, density=1.0, points=0, metric="mae", bare=True),
    "hostile": sample_report(
        layers=12, names=HOSTILE_NAMES, filename="w" * 300 + "<script>alert(3)</script>"
    ),
}


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_the_page_fits_and_needs_nothing_else(
    browser: Browser, tmp_path: Path, report: Report, scheme: Literal["light", "dark"], width: int
) -> None:
    file = tmp_path / "report.html"
    file.write_text(render_html(report), encoding="utf-8")
    with undisturbed(browser, file, width, scheme) as page:
        for picture in page.locator("figure svg").all():
            box = picture.bounding_box()
            assert box is not None
            assert 0 < box["width"] <= width


def _luminance(colour: list[float]) -> float:
    """Relative luminance of sRGB (WCAG 2.2)."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_colour_stands_out_from_the_paper(
    browser: Browser, tmp_path: Path, scheme: Literal["light", "dark"]
) -> None:
    file = tmp_path / "report.html"
    file.write_text(render_html(REPORTS["usual"]), encoding="utf-8")
    page = browser.new_page(color_scheme=scheme)
    page.goto(file.as_uri())
    colours = page.evaluate(
        """() => {
          const read = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
          const split = hex => [1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16) / 255);
          const names = ['--paper', '--ink', '--muted', '--accent', '--second', '--good', '--bad'];
          return Object.fromEntries(names.map(name => [name, split(read(name))]));
        }"""
    )
    paper = _luminance(colours.pop("--paper"))
    for name, colour in colours.items():
        lighter, darker = sorted((paper, _luminance(colour)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, f"{name} is too faint in {scheme}"
    page.close()


def test_print_shows_every_layer(browser: Browser, tmp_path: Path) -> None:
    """On the screen a long table scrolls in its own frame; on paper nothing may be hidden."""
    file = tmp_path / "report.html"
    file.write_text(render_html(REPORTS["three hundred layers"]), encoding="utf-8")
    page = browser.new_page()
    page.goto(file.as_uri())
    hidden = "(frame => frame.scrollHeight - frame.clientHeight)(document.querySelector('.scroll'))"
    assert page.evaluate(hidden) > 1000
    page.emulate_media(media="print")
    assert page.evaluate(hidden) <= 1
    page.close()


def test_the_curve_of_several_densities_is_shown(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(render_html(REPORTS["five densities"]), encoding="utf-8")
    with undisturbed(browser, file, 1280, "light") as page:
        section = page.locator("section", has=page.locator("#densities"))
        assert section.locator("figure#quality-by-density svg").is_visible()
        rows = section.locator("tbody tr")
        assert rows.count() == 6
        assert [row.locator("th").inner_text() for row in rows.all()] == [
            "dense",
            "0.5",
            "0.2",
            "0.1",
            "0.05",
            "0.02",
        ]
        assert section.get_by_text("models/density-0.05.onnx").is_visible()
        labels = section.locator("figure svg text").all_text_contents()
        assert {"0.5", "0.02", "density"} <= set(labels)
        assert page.locator("figure#quality-by-density").count() == 1
