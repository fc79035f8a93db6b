"""The files that a run leaves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from prune_engine.figures import write_figures
from prune_engine.formats import save_model
from prune_engine.goals import stop_name
from prune_engine.page import render_html

if TYPE_CHECKING:
    from prune_engine.api import PruneResult


def save(result: PruneResult, folder: Path) -> list[str]:
    """Write model, masks, report and pictures into `folder`.

    The model is `model.onnx`, or `model.zip` where it came with data files or has more than 2 GiB. Of a
    frontier it is the sparsest, and each density has its own in `models/`. `masks.npz` holds one boolean
    array a prunable weight, under the initializer's name: True is kept.

    Returns:
        The files' names relative to `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = save_model(result.model, folder, result.storage)
    np.savez_compressed(folder / "masks.npz", allow_pickle=False, **result.masks)
    (folder / "report.json").write_text(result.report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / "report.html").write_text(render_html(result.report), encoding="utf-8")
    stops = [
        save_model(proto, folder, result.storage, stop_name(density))
        for density, proto in result.stops.items()
    ]
    figures = [f"figures/{name}" for name in write_figures(result.report, folder / "figures")]
    return [model, *stops, "report.json", "report.html", "masks.npz", *figures]
