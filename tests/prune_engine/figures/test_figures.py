import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from prune_engine.figures import Picture, pictures_of, write_figures
from prune_engine.figures.canvas import VARIABLES, WIDTH, themed
from prune_engine.report import Report
from tests.prune_engine.sample_report import HOSTILE_NAMES, sample_report, with_frontier, with_target

SVG = "{http://www.w3.org/2000/svg}"
REPORTS = {
    "usual": sample_report(),
    "three layers": sample_report(layers=3, density=0.5, points=8),
    "three hundred layers": sample_report(layers=300, density=0.0015, sparse_everywhere=True, points=600),
    "bare": sample_report(layers=1, density=1.0, points=0, metric="mae", bare=True),
    "one point": sample_report(points=1, metric="agreement"),
    "hostile": sample_report(layers=len(HOSTILE_NAMES), names=HOSTILE_NAMES, density=0.02),
}
PICTURES = pictures_of(sample_report())
every_picture = pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
every_report = pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@every_picture
@every_report
def test_a_picture_is_well_formed_accessible_and_free_of_references(picture: Picture, report: Report) -> None:
    svg = picture.draw(report)
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert root.get("width") == str(WIDTH)
    ids = [node.get("id") for node in root.iter() if node.get("id")]
    assert len(ids) == len(set(ids)), "an id occurs twice"
    assert all(str(identifier).startswith(picture.name) for identifier in ids)
    assert set(str(root.get("aria-labelledby")).split()) <= set(ids)
    assert not list(root.iter(f"{SVG}style")), "its rules would reach the whole page"
    for node in root.iter():
        assert node.tag not in (f"{SVG}script", f"{SVG}image", f"{SVG}foreignObject")
        for name, value in node.items():
            assert not name.startswith("on")
            if name.endswith("href"):
                assert value.removeprefix("#") in ids
    assert picture.caption(report).endswith(".")


@every_picture
def test_the_same_report_gives_the_same_bytes(picture: Picture) -> None:
    assert picture.draw(REPORTS["usual"]) == picture.draw(sample_report())


@every_picture
def test_text_is_text_and_colours_follow_the_page(picture: Picture) -> None:
    svg = picture.draw(REPORTS["usual"])
    assert texts(svg)
    page = ElementTree.fromstring(themed(svg))
    styles = " ".join(node.get("style", "") for node in page.iter())
    assert "var(--" in styles
    for colour, variable in VARIABLES.items():
        assert styles.count(colour) == styles.count(f"var(--{variable}, {colour})")


def test_few_layers_are_named_and_many_are_placed() -> None:
    density_by_layer = PICTURES[0]
    few, many = REPORTS["usual"], REPORTS["three hundred layers"]
    assert {layer.name for layer in few.layers} <= set(texts(density_by_layer.draw(few)))
    assert not {layer.name for layer in many.layers} & set(texts(density_by_layer.draw(many)))
    assert "60 layers without a kept weight" in density_by_layer.caption(many)


def test_names_of_layers_are_shown_as_they_are_not_as_formulas() -> None:
    names = ("$x_1$", "<b>&amp;")
    shown = texts(PICTURES[0].draw(sample_report(layers=3, names=names)))
    assert {"$x_1$", "<b>&amp;"} <= set(shown)


def test_the_curve_says_where_the_mask_was_fixed() -> None:
    curve = PICTURES[1]
    assert "mask fixed" in texts(curve.draw(REPORTS["usual"]))
    assert "mask fixed" not in texts(curve.draw(REPORTS["one point"]))
    assert curve.caption(REPORTS["bare"]) == "No training step was taken."


def test_each_picture_is_written_to_a_file_of_its_own(tmp_path: Path) -> None:
    names = write_figures(REPORTS["usual"], tmp_path / "figures")
    assert names == [f"{picture.name}.svg" for picture in PICTURES]
    for name in names:
        assert ElementTree.parse(tmp_path / "figures" / name).getroot().tag == f"{SVG}svg"


def test_importing_the_pictures_does_not_import_matplotlib() -> None:
    code = "import sys, prune_engine.page; sys.exit('matplotlib' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_drawing_leaves_no_trace_in_matplotlib() -> None:
    code = (
        "import sys, matplotlib; before = matplotlib.rcParams.copy()\n"
        "from prune_engine.figures import pictures_of\n"
        "from tests.prune_engine.sample_report import sample_report\n"
        "for picture in pictures_of(sample_report()): picture.draw(sample_report())\n"
        "sys.exit(before != matplotlib.rcParams.copy() or 'matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


SEVERAL = {
    "frontier": with_frontier(sample_report(), (0.5, 0.2, 0.05)),
    "one": with_frontier(sample_report(), (0.2,)),
    "target": with_target(sample_report(), met=True),
    "errors": with_target(sample_report(metric="mae"), met=False),
}


@pytest.mark.parametrize("report", SEVERAL.values(), ids=SEVERAL)
def test_several_densities_are_drawn_with_the_dense_model(report: Report) -> None:
    first = pictures_of(report)[0]
    assert first.name == "quality-by-density"
    svg = first.draw(report)
    shown = texts(svg)
    assert any("dashed: dense" in text for text in shown)
    assert {"0.2", "density"} <= set(shown) or {"0.16", "density"} <= set(shown)
    assert svg == first.draw(report)
    assert first.caption(report)


@pytest.mark.parametrize("whole", [False, True])
def test_a_search_with_trainings_of_one_kind_only_is_drawn(whole: bool) -> None:
    report = with_target(sample_report(), met=True)
    assert report.target is not None
    tried = [one for one in report.target.tried if one.whole is whole]
    target = report.target.model_copy(update={"tried": tried})
    shown = texts(pictures_of(report.model_copy(update={"target": target}))[0].draw(report))
    alone = pictures_of(report)[0].draw(report.model_copy(update={"target": target}))
    assert tried
    assert "o" not in texts(alone)
    assert any("dashed: dense" in text for text in shown)


def test_one_density_has_no_curve() -> None:
    assert "quality-by-density" not in {picture.name for picture in PICTURES}
