"""The pictures of the report: one file each, `Report` -> SVG."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prune_engine.figures import density_by_layer, training_curve, weights
from prune_engine.report import Report

__all__ = ["PICTURES", "Picture", "write_figures"]


@dataclass(frozen=True)
class Picture:
    """A picture of the report. `name` is also its file's name, without `.svg`."""

    name: str
    title: str
    draw: Callable[[Report], str]
    caption: Callable[[Report], str]


PICTURES: tuple[Picture, ...] = tuple(
    Picture(module.NAME, module.TITLE, module.draw, module.caption)
    for module in (density_by_layer, training_curve, weights)
)


def write_figures(report: Report, folder: Path) -> list[str]:
    """Write every picture into `folder` as an SVG file of its own.

    Returns:
        The files' names, in the report's order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{picture.name}.svg" for picture in PICTURES]
    for picture, name in zip(PICTURES, names, strict=True):
        (folder / name).write_text(picture.draw(report) + "\n", encoding="utf-8")
    return names
