"""What all pictures share: size, type, colours, and the way from matplotlib to an SVG for a page.

matplotlib is imported when the first picture is drawn (about half a second) and never through pyplot.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = (
    520  # user units; a picture is shown at this size or shrunk to a phone, where 13 units are still legible
)
TEXT = 13
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"

# Light-page colours; `themed` turns each into the page's CSS variable of that name. Blue and orange differ in
# lightness as well as in hue, and in every picture something else than colour tells the series apart too.
INK, MUTED, RULE, ACCENT, SECOND = "#1c2329", "#5a6672", "#d8dee4", "#0b62a8", "#b4540a"
VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", ACCENT: "accent", SECOND: "second"}

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_drawing = threading.Lock()  # matplotlib's settings are global to the process


def draw_svg(name: str, title: str, description: str, height: float, draw: Callable[[Figure], None]) -> str:
    """Draw a picture of `WIDTH` x `height` units and return it as SVG with real text; same input, same bytes.

    Args:
        name: prefix of every id in the SVG, so that several pictures can stand in one page.
        title: what the picture shows, for those who do not see it.
        description: what is to be seen in it, in a sentence or two.
        height: in user units.
        draw: receives an empty figure.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with _drawing, mpl.rc_context(_settings(name)), warnings.catch_warnings():
        # Text is only measured with matplotlib's own font, which may lack a stranger's script.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return _finished(buffer.getvalue(), name, title, description)


def themed(svg: str) -> str:
    """`svg` with its colours as CSS variables (`var(--ink, #1c2329)`), for a light and a dark page."""
    root = ElementTree.fromstring(svg)  # noqa: S314 - our own output
    for element in root.iter():
        style = element.get("style")
        if style is not None:
            element.set("style", re.sub(r"#[0-9a-f]{6}", _variable, style))
    return _serialised(root)


def soften(axes: Axes) -> None:
    """Leave of an axes' frame only the line at the bottom."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.grid(True, axis="y")
    axes.set_axisbelow(True)


def _settings(name: str) -> Any:
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,  # a layer called `$x$` is no formula
        "font.family": "DejaVu Sans",  # comes with matplotlib, so the layout is the same on every machine
        "font.size": TEXT,
        "axes.labelsize": TEXT,
        "axes.titlesize": TEXT,
        "xtick.labelsize": TEXT,
        "ytick.labelsize": TEXT,
        "legend.fontsize": TEXT,
        "legend.frameon": False,
        "text.color": INK,
        "axes.labelcolor": MUTED,
        "axes.edgecolor": MUTED,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "grid.color": RULE,
        "grid.linewidth": 1,
        "axes.linewidth": 1,
        "axes.formatter.use_mathtext": False,
        "path.simplify": False,
    }


def _variable(match: re.Match[str]) -> str:
    colour = match.group()
    return f"var(--{VARIABLES[colour]}, {colour})" if colour in VARIABLES else colour


def _finished(raw: bytes, name: str, title: str, description: str) -> str:
    """matplotlib's file made fit for a page: no style beyond itself, unique ids, title, description."""
    root = ElementTree.fromstring(raw)  # noqa: S314 - our own output
    parents = {child: parent for parent in root.iter() for child in parent}
    for element in list(root.iter()):
        tag = element.tag.rpartition("}")[2]
        if tag in ("metadata", "style"):  # the style sheet's `*` selector would hit the whole page
            parents[element].remove(element)
            continue
        for attribute, value in list(element.items()):
            if attribute == "id":
                element.set("id", f"{name}-{value}")
            elif attribute == f"{{{_XLINK}}}href":
                del element.attrib[attribute]
                element.set("href", f"#{name}-{value.removeprefix('#')}")
            elif "url(#" in value:
                element.set(attribute, value.replace("url(#", f"url(#{name}-"))
        style = element.get("style")
        if style is not None:
            element.set("style", re.sub(r"font: (?:\d+ )?([\d.]+px) [^;]*", r"font-size: \1", style))
    viewbox = root.get("viewBox", "").split()
    root.attrib.update(
        {
            "width": viewbox[2],
            "height": viewbox[3],
            "role": "img",
            "aria-labelledby": f"{name}-title {name}-description",
            "font-family": FONTS,
            "stroke-linejoin": "round",
        }
    )
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        label = ElementTree.Element(
            f"{{{_SVG}}}{tag}", {"id": f"{name}-{'description' if position else 'title'}"}
        )
        label.text = text
        root.insert(position, label)
    return _serialised(root)


def _serialised(root: ElementTree.Element) -> str:
    ElementTree.register_namespace("", _SVG)
    return ElementTree.tostring(root, encoding="unicode")
