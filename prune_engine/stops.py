"""The densities of a frontier in the report and among the files."""

from __future__ import annotations

from collections.abc import Sequence

from prune_engine.finishing import Finished
from prune_engine.formats import model_file_name
from prune_engine.formats.storage import Storage
from prune_engine.goals import stop_name
from prune_engine.report import FrontierStop


def stop_row(stop: Finished, storage: Storage | None) -> FrontierStop:
    """What a reader compares between densities."""
    density = stop.spec.one_density
    return FrontierStop(
        density=density,
        reached=stop.density.reached,
        kept=stop.density.kept,
        value=stop.quality.pruned.value,
        loss=stop.quality.pruned.loss,
        before_finetuning=stop.quality.before_finetuning.value,
        bytes=stop.size.after,
        gzip_bytes=stop.size.after_gzip,
        multiply_adds=stop.operations.effective,
        latency_ms=stop.latency.after.median_ms,
        latency_ratio=stop.latency.ratio,
        model=model_file_name(stop.model, storage, stop_name(density)),
    )


def stop_warnings(stops: Sequence[Finished]) -> list[str]:
    """What each training warned of, once; of several densities with the density that it was."""
    if len(stops) == 1:
        return stops[0].warnings
    said: dict[str, list[str]] = {}
    for stop in stops:
        for warning in stop.warnings:
            said.setdefault(warning, []).append(f"{stop.spec.one_density:g}")
    return [
        warning if len(where) == len(stops) else f"Density {', '.join(where)}: {warning}"
        for warning, where in said.items()
    ]
