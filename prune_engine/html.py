"""How a page is made of a template: escaped, self-contained, numbers set for people. Light: no matplotlib."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from prune_engine import typography
from prune_engine.report import TensorInfo


@cache
def environment() -> Environment:
    """The templates' environment; its filters set numbers and strangers' names for people."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )
    made.filters.update(
        breakable=_breakable,
        count=typography.count,
        density=typography.density,
        duration=typography.duration,
        large=typography.large,
        milliseconds=typography.milliseconds,
        significant=typography.significant,
        size=typography.size,
        tensor=_tensor,
        shape=lambda shape: _shape(shape, "×"),
    )
    made.globals["measured"] = typography.measured
    return made


def moment(stamp: str) -> str:
    """`20 November 2026, 14:34 UTC`; the text as it is where it is no date."""
    try:
        when = datetime.fromisoformat(stamp)
    except ValueError:
        return stamp
    return f"{when.day} {when:%B %Y, %H:%M} UTC"


def _shown(value: Any) -> Any:
    """Whatever reaches the page: strings cleaned (they are escaped afterwards), Markup is our own."""
    return typography.clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _breakable(name: str) -> Markup:
    """A name in at most 160 characters that may be broken after a dot, slash or underscore."""
    shown = str(escape(typography.shorten(name, 160) or "(no name)"))
    for mark in "._/":
        shown = shown.replace(mark, f"{mark}<wbr>")
    return Markup(shown)  # noqa: S704 - escaped above


def _shape(shape: tuple[int | str | None, ...], times: str = " × ") -> str:
    return times.join("?" if part is None else str(part) for part in shape) or "scalar"


def _tensor(tensor: TensorInfo) -> str:
    return f"{tensor.name}: {tensor.dtype} {_shape(tensor.shape)}"
