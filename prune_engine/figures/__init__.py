"""The pictures of the report: one file each, `Report` -> SVG."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prune_engine.figures import density_by_layer, quality_by_density, training_curve, weights
from prune_engine.report import Report

__all__ = ["PICTURES", "Picture", "pictures_of", "write_figures"]


@dataclass(frozen=True)
class Picture:
    """A picture of the report. `name` is also its file's name, without `.svg`.

    `applies`: whether a report has what it shows.
    """

    name: str
    title: str
    draw: Callable[[Report], str]
    caption: Callable[[Report], str]
    applies: Callable[[Report], bool] = lambda report: True


PICTURES: tuple[Picture, ...] = (
    Picture(
        quality_by_density.NAME,
        quality_by_density.TITLE,
        quality_by_density.draw,
        quality_by_density.caption,
        quality_by_density.applies,
    ),
    *(
        Picture(module.NAME, module.TITLE, module.draw, module.caption)
        for module in (density_by_layer, training_curve, weights)
    ),
)


def pictures_of(report: Report) -> list[Picture]:
    """Those that the report has something for, in its order."""
    return [picture for picture in PICTURES if picture.applies(report)]


def write_figures(report: Report, folder: Path) -> list[str]:
    """Write every picture into `folder` as an SVG file of its own.

    Returns:
        The files' names, in the report's order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = pictures_of(report)
    names = [f"{picture.name}.svg" for picture in pictures]
    for picture, name in zip(pictures, names, strict=True):
        (folder / name).write_text(picture.draw(report) + "\n", encoding="utf-8")
    return names
