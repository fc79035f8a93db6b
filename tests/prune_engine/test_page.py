"""The report page: what is in it, and what strangers' names cannot do to it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prune_engine.figures import pictures_of
from prune_engine.headline import comparison
from prune_engine.page import render_html
from prune_engine.typography import THIN, clean
from tests.prune_engine.sample_report import HOSTILE_NAMES, sample_report

VOID = {"meta", "link", "br", "wbr"}
ALLOWED = """html head meta link title style body header main footer section div p h1 h2 h3 span small strong
code table caption thead tbody tr th td ul li dl dt dd figure figcaption i br wbr""".split()  # noqa: SIM905 - reads better
SVG_TAGS = "svg g path text defs clippath use rect desc title".split()  # noqa: SIM905 - reads better


class Page(HTMLParser):
    """Reads a page strictly: every element closed in order, every id once."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        allowed = SVG_TAGS if "svg" in self.open or tag == "svg" else ALLOWED
        assert tag in allowed, f"<{tag}> does not belong on the page"
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names))
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s*\n\s*", " ", "".join(self.texts))


def check(html: str) -> Page:
    page = Page(html)
    assert html.startswith("<!doctype html>")
    assert len(page.ids) == len(set(page.ids)), "an id occurs twice"
    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    links = [
        value for name, value in page.attributes if name in ("href", "src", "action", "xlink:href", "data")
    ]
    assert all(value.startswith("#") or value == "data:," for value in links), (
        "the page would ask for something"
    )
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    return page


@pytest.mark.parametrize("layers", [1, 3, 20, 300])
@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("metric", ["accuracy", "mae"])
def test_the_page_is_valid_and_self_contained(layers: int, bare: bool, metric: str) -> None:
    report = sample_report(layers=layers, bare=bare, metric=metric, points=0 if bare else 40)
    page = check(render_html(report))
    pictures = pictures_of(report)
    assert page.tags.count("svg") == len(pictures)
    assert {picture.name for picture in pictures} <= set(page.ids)


def test_preprocessings_of_numbers_are_compared_by_the_variance_explained() -> None:
    for metric, heading in (("mae", "variance explained"), ("accuracy", "dense model's score")):
        report = sample_report(metric=metric)
        score = max(one.score for one in report.data.preprocess.candidates if one.score is not None)
        text = check(render_html(report)).text
        assert heading in text
        assert f"{score:.2f}{THIN}%" in text


def test_everything_in_the_report_is_on_the_page() -> None:
    report = sample_report()
    text = check(render_html(report)).text
    for line in comparison(report):
        assert {line.name, line.dense, line.pruned, line.change} <= set(
            re.split(r"\s{2,}|(?<=\S) (?=\S)", text)
        ) or (line.dense in text and line.pruned in text and line.change in text and line.note in text)
    assert report.latency is not None
    expected = [
        report.latency.sentence,
        report.model.sha256,
        report.data.preprocess.why,
        "((x / 255) − [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225], layout nchw",
        f"input: {report.model.inputs[0].dtype} batch × 3 × 32 × ?",
        "schedule.anneal_until",
        f"11{THIN}min 41{THIN}s",
        *(f"{check.name} {check.detail}" for check in report.checks),
        *(candidate.name for candidate in report.data.preprocess.candidates),
        *(layer.name for layer in report.layers),
        *report.warnings,
        *(f"{name} {version}" for name, version in report.environment.versions.items()),
    ]
    assert [item for item in expected if item not in text] == []


def test_stages_stand_in_the_order_of_a_run() -> None:
    report = sample_report()
    shuffled = {name: report.durations[name] for name in sorted(report.durations)}
    html = render_html(report.model_copy(update={"durations": shuffled}))
    stages = ["preparing", "baseline", "pruning", "finetuning", "exporting", "verifying", "all together"]
    places = [html.index(f"<dt>{stage}</dt>") for stage in stages]
    assert places == sorted(places)


def test_a_failed_check_is_seen() -> None:
    report = sample_report()
    failed = report.checks[0].model_copy(update={"passed": False})
    assert 'class="failed">failed<' in render_html(report.model_copy(update={"checks": [failed]}))


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names_stay_text(name: str) -> None:
    html = render_html(sample_report(layers=3, names=(name,), filename=name))
    page = check(html)
    assert "\x00" not in html
    assert "\u202e" not in html
    html.encode()
    if len(name) < 100:
        assert clean(name) in page.text


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=40))
def test_any_name_anywhere_keeps_the_page_valid(name: str) -> None:
    report = sample_report(layers=2, points=2, names=(name, name[::-1]), filename=name)
    hostile = report.model_copy(
        update={
            "warnings": [name],
            "settings": {name: name, "nested": {name: [1, name, None, True]}},
            "checks": [report.checks[0].model_copy(update={"name": name, "detail": name})],
            "created_at": name,
            "job_id": name,
        }
    )
    check(render_html(hostile)).text.encode()
